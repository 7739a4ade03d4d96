package proxy

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// watcher tells when a client leaves while nobody reads from its connection:
// one epoll and one goroutine for the whole server, whatever the number of
// clients. fasthttp's own RequestCtx.Done fires only when the server stops, so
// this is how a departure reaches the backend before the next byte, or instead
// of it.
//
// A connection enters the epoll with its first request and leaves it when it is
// closed; from one request to the next only the function to call changes hands,
// which costs no system call. The events are edge-triggered: each departure is
// told once, and remembered if no request is there to hear of it.
//
// EPOLLRDHUP sees a FIN behind bytes that nobody has read yet, which a peek
// cannot. A half-close counts as leaving, as it does for nginx and net/http.
//
// The epoll descriptor itself sits in Go's poller, so that waiting for it holds
// no thread.
type watcher struct {
	epfd int
	file *os.File // owns epfd
	done chan struct{}

	life   sync.RWMutex // held while epfd is used by number, so that Close cannot free it
	closed bool

	mu      sync.Mutex
	slots   []watchSlot
	free    []uint32
	settled sync.Cond // an onGone has returned
}

// watchSlot is what an event refers to. Descriptors are reused by the kernel
// and tickets by us, so an event carries the index of a slot and the generation
// it was issued in: a late one finds another generation and is ignored.
type watchSlot struct {
	t   *watchTicket
	gen uint32
}

type watchState uint8

const (
	watchIdle     watchState = iota // not in the epoll
	watchDisarmed                   // in the epoll, and nobody is to be told
	watchArmed
	watchRunning // onGone is running
	watchFired   // onGone has run
)

// watchTicket stands for one watched connection. The zero value is ready, and a
// ticket may be used again after stop; it must not be copied while in use.
type watchTicket struct {
	w      *watcher
	rc     syscall.RawConn
	onGone func()
	slot   uint32
	gen    uint32
	state  watchState // guarded by w.mu, as is gone
	gone   bool       // the peer left while nobody was to be told

	// addFD and delFD as method values, made once for a ticket that is reused.
	add, del func(fd uintptr)
	ctlErr   error
}

// newWatcher starts a watcher. Its goroutine ends with Close.
func newWatcher() (*watcher, error) {
	epfd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll_create: %w", err)
	}
	if err := unix.SetNonblock(epfd, true); err != nil {
		_ = unix.Close(epfd)
		return nil, fmt.Errorf("epoll: %w", err)
	}
	w := &watcher{epfd: epfd, file: os.NewFile(uintptr(epfd), "epoll"), done: make(chan struct{})}
	w.settled.L = &w.mu
	rc, err := w.file.SyscallConn()
	if err != nil {
		_ = w.file.Close()
		return nil, fmt.Errorf("epoll: %w", err)
	}
	go w.run(rc)
	return w, nil
}

// Close ends the goroutine and waits for it. Tickets still armed will not fire;
// their stop stays harmless.
func (w *watcher) Close() error {
	w.life.Lock()
	if w.closed {
		w.life.Unlock()
		return nil
	}
	w.closed = true
	err := w.file.Close()
	w.life.Unlock()
	<-w.done
	return err
}

// watch calls onGone, once, when the peer of c closes, half-closes or resets: from
// the watcher's goroutine, or from this call if the peer has left already. onGone
// must be quick and must not call disarm or stop. watch reports false when c has
// no descriptor (an in-memory connection) or is closed already: then the
// departure shows at the next read or write. Wrappers are unwrapped
// (descriptorOf).
//
// The ticket belongs to the connection until stop returns, and to the watcher
// until disarm returns.
func (w *watcher) watch(c net.Conn, t *watchTicket, onGone func()) bool {
	if t.w == nil && !w.attach(c, t) {
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case t.state == watchIdle: // retired: the connection is closed
		return false
	case t.state != watchDisarmed:
		panic("BUG: watchTicket used again before disarm")
	case t.gone:
		t.state = watchFired
		onGone()
	default:
		t.onGone, t.state = onGone, watchArmed
	}
	return true
}

// attach puts a connection into the epoll.
func (w *watcher) attach(c net.Conn, t *watchTicket) bool {
	sc := descriptorOf(c)
	if sc == nil {
		return false
	}
	rc, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	if t.add == nil {
		t.add, t.del = t.addFD, t.delFD
	}

	w.mu.Lock()
	if n := len(w.free); n > 0 {
		t.slot, w.free = w.free[n-1], w.free[:n-1]
	} else {
		t.slot = uint32(len(w.slots))
		w.slots = append(w.slots, watchSlot{})
	}
	s := &w.slots[t.slot]
	s.t = t
	t.w, t.rc, t.gen, t.state, t.gone = w, rc, s.gen, watchDisarmed, false
	w.mu.Unlock()

	w.life.RLock()
	// Control pins the descriptor: it is this connection's own or it is closed.
	err = errWatcherClosed
	if !w.closed {
		t.ctlErr = nil
		if err = rc.Control(t.add); err == nil {
			err = t.ctlErr
		}
	}
	w.life.RUnlock()
	if err != nil {
		t.stop()
		return false
	}
	return true
}

var errWatcherClosed = errors.New("watcher is closed")

func (t *watchTicket) addFD(fd uintptr) {
	ev := unix.EpollEvent{
		Events: unix.EPOLLRDHUP | unix.EPOLLHUP | unix.EPOLLERR | unix.EPOLLET,
		Fd:     int32(t.slot),
		Pad:    int32(t.gen),
	}
	t.ctlErr = unix.EpollCtl(t.w.epfd, unix.EPOLL_CTL_ADD, int(fd), &ev)
}

func (t *watchTicket) delFD(fd uintptr) {
	// ENOENT is possible when adding failed; nothing can be done about others.
	_ = unix.EpollCtl(t.w.epfd, unix.EPOLL_CTL_DEL, int(fd), nil)
}

// disarm ends the watch for a request: when it returns, onGone is not running and
// will not run. The connection stays in the epoll for its next request. It does
// nothing on a ticket that is not in use. Only one goroutine may call it, and
// never from within onGone.
func (t *watchTicket) disarm() {
	w := t.w
	if w == nil {
		return
	}
	w.mu.Lock()
	for t.state == watchRunning {
		w.settled.Wait()
	}
	if t.state == watchFired {
		t.gone = true // for a request that was sent ahead
	}
	if t.state != watchIdle {
		t.state = watchDisarmed
	}
	t.onGone = nil
	w.mu.Unlock()
}

// retire ends the watch for a connection that is about to be closed, which takes
// it out of the epoll. It may be called from any goroutine, and again; disarm and
// watch then do nothing.
func (t *watchTicket) retire() {
	w := t.w
	if w == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for t.state == watchRunning {
		w.settled.Wait()
	}
	if t.state == watchIdle {
		return
	}
	s := &w.slots[t.slot]
	s.t = nil
	s.gen++
	w.free = append(w.free, t.slot)
	t.state, t.onGone = watchIdle, nil
}

// stop ends the watch for a connection that lives on. The ticket may be used
// again.
func (t *watchTicket) stop() {
	w := t.w
	if w == nil {
		return
	}
	t.retire()
	// A connection that was closed meanwhile has left the epoll by itself, and
	// Control then does not run: the number may be another connection's by now.
	w.life.RLock()
	if !w.closed {
		_ = t.rc.Control(t.del)
	}
	w.life.RUnlock()
	t.w, t.rc = nil, nil
}

// run waits for events until the epoll is closed.
func (w *watcher) run(rc syscall.RawConn) {
	defer close(w.done)
	events := make([]unix.EpollEvent, 128)
	var n int
	wait := func(fd uintptr) bool {
		for {
			var err error
			n, err = unix.EpollWait(int(fd), events, 0)
			if err == unix.EINTR {
				continue
			}
			if err != nil {
				n = 0
			}
			return n > 0
		}
	}
	for rc.Read(wait) == nil {
		for _, ev := range events[:n] {
			w.fire(uint32(ev.Fd), uint32(ev.Pad))
		}
	}
}

// fire runs the onGone of the slot, unless its watch ended in the meantime.
func (w *watcher) fire(slot, gen uint32) {
	w.mu.Lock()
	s := &w.slots[slot]
	t := s.t
	if t == nil || s.gen != gen {
		w.mu.Unlock()
		return
	}
	if t.state != watchArmed {
		t.gone = true
		w.mu.Unlock()
		return
	}
	t.state = watchRunning
	onGone := t.onGone
	w.mu.Unlock()

	onGone()

	w.mu.Lock()
	t.state = watchFired
	w.settled.Broadcast()
	w.mu.Unlock()
}
