"""What backends find, against what they cost: every search setting of one build."""
