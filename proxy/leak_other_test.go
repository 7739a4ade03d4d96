//go:build !linux

package proxy

// watchedBy is the number of connections that a watcher watches: none here.
func watchedBy(*watcher) int { return 0 }
