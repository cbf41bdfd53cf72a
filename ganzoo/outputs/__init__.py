"""What a run gives away: pictures, samples and exports. Import the modules; this one stays empty of names."""
