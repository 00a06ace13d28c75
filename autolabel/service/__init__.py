"""The webhook receiver and what it starts: verify, keep durably, answer; then one sync at a time in a warm child."""
