"""What each provider can make, costs and says. No I/O."""
