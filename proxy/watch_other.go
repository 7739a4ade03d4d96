//go:build !linux

package proxy

import "net"

// watcher is a stand-in where there is no epoll: it watches nothing, and a
// client's departure is seen only when the next write to it fails. Dragoman is
// deployed on Linux; elsewhere it is for development.
type watcher struct{}

// watchTicket stands for one watched connection; here it does nothing.
type watchTicket struct{}

func newWatcher() (*watcher, error) { return &watcher{}, nil }

// Close has nothing to release.
func (w *watcher) Close() error { return nil }

// watch always reports false: the departure will be seen at the next write.
func (w *watcher) watch(net.Conn, *watchTicket, func()) bool { return false }

// attach has nowhere to put a connection.
func (w *watcher) attach(net.Conn, *watchTicket) bool { return false }

// disarm has nothing to end.
func (t *watchTicket) disarm() {}

// retire has nothing to free.
func (t *watchTicket) retire() {}

// stop has nothing to deregister.
func (t *watchTicket) stop() {}
