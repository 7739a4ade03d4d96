package proxy

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"
)

// A server ends in steps:
//
//	Drain     not ready; it accepts and serves as before, and every answer closes its connection
//	Shutdown  it does not accept any more; idle connections close; what comes is refused; what runs goes on
//	the cut   shortly before Shutdown's time is over what still runs is told so in its own protocol
//	the end   connections on which even that did not get through are closed
//
// The first is for load balancers, which need a while to notice that a backend is not
// ready and until then send it requests, each of them on a connection that nobody uses
// again afterwards.

const (
	// tellTime is how long before the end those that still run are told, at most; a
	// short drain gives a quarter of its time.
	tellTime = 2 * time.Second
	// leastTime is what telling takes in any case, however little time there is.
	leastTime = 200 * time.Millisecond
	// hangUpTime is how long connections have to end where nobody said how long.
	hangUpTime = 2 * time.Second
	// idlePoll is how often a server that ends looks for connections that have become idle.
	idlePoll = 20 * time.Millisecond
)

// Drain announces the end: the server is not ready from now on, and every answer
// closes its connection. Else all goes on as before, until Shutdown. It may be called
// again.
func (s *Server) Drain() {
	s.mu.Lock()
	if s.since.IsZero() {
		s.since = time.Now()
	}
	s.draining.Store(true)
	s.mu.Unlock()
}

// Shutdown stops accepting, closes idle connections, waits for the requests that run,
// and cuts those that ctx leaves no time for: their clients are told so in their own
// protocol. It returns when everything has ended.
//
// Where ctx has a deadline everything has ended when it passes: those that still run
// are cut two seconds earlier, or a quarter of the time since Drain if that is less. A
// ctx that is cancelled cuts them at once.
func (s *Server) Shutdown(ctx context.Context) error {
	s.Drain()
	s.changing.Lock()   // a reload that has begun ends first, and no other begins
	s.changing.Unlock() //nolint:staticcheck // see above
	s.mu.Lock()
	first := !s.stopped
	s.stopped = true
	ln, since := s.ln, s.since
	if first && len(s.running) == 0 {
		close(s.idle)
	}
	s.mu.Unlock()
	if ln != nil {
		_ = ln.Close()
	}
	end, bounded := ctx.Deadline()
	if bounded {
		var early context.CancelFunc
		ctx, early = context.WithDeadline(ctx, cutTime(since, end))
		defer early()
	}
	if !s.settled(ln, ctx.Done()) {
		s.cut()
		if least := time.Now().Add(leastTime); !bounded || ctx.Err() == context.Canceled {
			end = time.Now().Add(max(s.snapshot().conf.Server.Timeouts.Write, hangUpTime))
		} else if end.Before(least) {
			end = least
		}
		// They end by themselves: each has at most one write to make. A quarter of the time
		// is left for those whose clients do not take it.
		late, stop := context.WithTimeout(context.Background(), time.Until(end)*3/4)
		if !s.settled(ln, late.Done()) && ln != nil {
			ln.hangUp(true)
		}
		stop()
	}
	err := s.disconnect(ctx, ln, end)
	if s.certs != nil {
		s.certs.close()
	}
	s.stopAdmin()
	s.closeCallers()
	s.closeState()
	s.closeAgents()
	if werr := s.watcher.Close(); err == nil {
		err = werr
	}
	return err
}

// cutTime is when what still runs is cut in a drain that began at since and is to be over
// at end.
func cutTime(since, end time.Time) time.Time { return end.Add(-min(tellTime, end.Sub(since)/4)) }

// settled waits until nothing runs, and reports whether that came before done. Meanwhile
// it closes the connections that have become idle.
func (s *Server) settled(ln *listener, done <-chan struct{}) bool {
	look := time.NewTicker(idlePoll)
	defer look.Stop()
	for {
		if ln != nil {
			ln.hangUp(false)
		}
		select {
		case <-s.idle:
			return true
		default:
		}
		select {
		case <-s.idle:
			return true
		case <-done:
			return false
		case <-look.C:
		}
	}
}

// cut ends what runs, each with a word of why.
func (s *Server) cut() {
	s.mu.Lock()
	s.cutting = true
	cut := make([]*call, 0, len(s.running))
	for e := range s.running {
		cut = append(cut, e)
	}
	s.mu.Unlock()
	if len(cut) > 0 {
		s.log.Warn("the time to drain is over; what still runs is cut", zap.Int("requests", len(cut)))
	}
	for _, e := range cut {
		e.cancel.Cancel(errShutdown)
	}
}

// disconnect ends the clients' connections. No request runs any more, but
// answers may still be on their way, and requests may be coming in, which are
// told that the proxy is shutting down.
func (s *Server) disconnect(ctx context.Context, ln *listener, end time.Time) error {
	if ln == nil {
		return nil
	}
	always, cancel := context.WithCancel(context.Background())
	defer cancel()
	down := make(chan error, 1)
	go func() {
		err := s.http.ShutdownWithContext(always)
		s.returned.Wait()
		down <- err
	}()
	look := time.NewTicker(idlePoll)
	defer look.Stop()
	for over := ctx.Done(); ; {
		// fasthttp takes a connection on which nothing was ever sent for a busy one.
		ln.hangUp(false)
		select {
		case err := <-down:
			return err
		case <-look.C:
			continue
		case <-over:
		}
		break
	}
	// Those that are left send a request, or take an answer, slowly.
	if end.IsZero() { // it was cancelled while nothing ran
		end = time.Now().Add(hangUpTime)
	}
	late := time.NewTimer(time.Until(end) / 2)
	defer late.Stop()
	select {
	case err := <-down:
		return err
	case <-late.C:
	}
	ln.hangUp(true)
	late.Reset(max(time.Until(end), leastTime))
	select {
	case err := <-down:
		return err
	case <-late.C:
		return errors.New("a request did not end")
	}
}

var errShutdown = errors.New("the proxy is shutting down")

// begin notes a request whose backend is about to be called.
func (s *Server) begin(e *call) bool { return s.note(e, false) }

// note is begin; part says that the request belongs to one that has begun.
func (s *Server) note(e *call, part bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cutting || s.stopped && !part {
		return false
	}
	s.running[e] = struct{}{}
	return true
}

func (s *Server) end(e *call) {
	s.mu.Lock()
	delete(s.running, e)
	if s.stopped && len(s.running) == 0 {
		select {
		case <-s.idle:
		default:
			close(s.idle)
		}
	}
	s.mu.Unlock()
}
