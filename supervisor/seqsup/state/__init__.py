"""State on disk: journal, run folders, the queue of runs, output, samples, artifacts."""
