package proxy

// watchedBy is the number of connections that a watcher watches.
func watchedBy(w *watcher) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.slots) - len(w.free)
}
