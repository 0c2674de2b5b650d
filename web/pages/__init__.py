"""Pages for people at a browser, `/`: what commands tell, alive, and the same rules for who may do what."""
