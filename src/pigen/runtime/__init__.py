"""What any program needs and no material knows: files, locks, memory, devices, executors."""
