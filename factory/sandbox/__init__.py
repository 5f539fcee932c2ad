"""The box in which model-written code runs."""
