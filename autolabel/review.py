"""What people made of a run's labels, and the time that it saved."""
