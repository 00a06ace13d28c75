"""The only place that knows the Encord SDK."""
