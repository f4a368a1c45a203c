"""What methods cost: tables and plots of speed and memory."""
