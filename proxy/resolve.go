package proxy

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"go.uber.org/zap"
)

const (
	// knownAddresses is how long the last known addresses of a name are used when its name servers fail. Addresses are given
	// to others in time, who must not be sent what was meant for the backend.
	knownAddresses = 5 * time.Minute
	// resolverRest is how long a resolver that failed is not asked again while there are known addresses: each dial would
	// wait for it.
	resolverRest = 2 * time.Second
	// stagger is the time after which the next address is tried beside one that has not answered (RFC 8305).
	stagger = 250 * time.Millisecond
)

// lookupFunc finds the addresses of a name, in the order in which they are to be tried.
type lookupFunc func(ctx context.Context, host string) ([]netip.Addr, error)

func systemLookup(ctx context.Context, host string) ([]netip.Addr, error) {
	return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
}

// resolver dials a backend by its name. It asks for the addresses at every dial, tries all of them, and makes do with the
// ones it knows while the name servers fail. It is safe for concurrent use.
type resolver struct {
	host, port string
	timeout    time.Duration // of a lookup
	lookup     lookupFunc
	control    func(network, address string, c syscall.RawConn) error // of every dial
	stale      func(error)                                            // see originConfig.Stale

	mu     sync.Mutex
	known  []netip.Addr
	at     time.Time // when they were known to be right
	failed time.Time // when the name servers failed last
}

// dial connects to one of the name's addresses.
func (r *resolver) dial(ctx context.Context) (net.Conn, error) {
	addrs, err := r.addresses(ctx)
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: err}
	}
	if len(addrs) == 1 {
		return r.dialOne(ctx, addrs[0])
	}
	return r.dialAll(ctx, addrs)
}

// addresses asks for the name's addresses. When there is no answer, or one that says nothing (SERVFAIL), the last known ones
// do for a while; an answer that there is no such name is believed.
func (r *resolver) addresses(ctx context.Context) ([]netip.Addr, error) {
	now := time.Now()
	r.mu.Lock()
	known := r.known
	if now.Sub(r.at) > knownAddresses {
		known = nil
	}
	resting := known != nil && !r.failed.IsZero() && now.Sub(r.failed) < resolverRest
	r.mu.Unlock()
	if resting {
		return known, nil
	}
	asking, stop := context.WithTimeout(ctx, r.timeout)
	addrs, err := r.lookup(asking, r.host)
	stop()
	tell := r.stale
	if tell == nil {
		tell = func(error) {}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil && len(addrs) > 0 {
		if !r.failed.IsZero() {
			defer tell(nil)
		}
		r.known, r.at, r.failed = addrs, now, time.Time{}
		return addrs, nil
	}
	if ctx.Err() != nil {
		return nil, ctx.Err() // whoever asked gave up, which says nothing of the name servers
	}
	if err == nil {
		err = &net.DNSError{Err: "no addresses", Name: r.host, IsNotFound: true}
	}
	if d, ok := errors.AsType[*net.DNSError](err); ok && d.IsNotFound {
		r.known = nil
		return nil, err
	}
	if known != nil {
		defer tell(err)
		r.failed = time.Now()
		return known, nil
	}
	return nil, err
}

// dialAll tries addresses in turn: the next when one failed, or has not answered for a moment. The first connection wins.
func (r *resolver) dialAll(ctx context.Context, addrs []netip.Addr) (net.Conn, error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop() // also those that were too slow
	type result struct {
		c   net.Conn
		err error
	}
	results := make(chan result)
	addrs = alternate(addrs)
	wait := stagger
	if end, ok := ctx.Deadline(); ok {
		// All get their turn before the time is up.
		wait = max(time.Millisecond, min(wait, time.Until(end)/time.Duration(len(addrs)+1)))
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	var first error
	for next, running := 0, 0; ; {
		var turn <-chan time.Time
		if next < len(addrs) {
			turn = timer.C
		}
		select {
		case <-turn:
			addr := addrs[next]
			next++
			running++
			go func() {
				c, err := r.dialOne(ctx, addr)
				select {
				case results <- result{c, err}:
				case <-ctx.Done():
					if c != nil {
						_ = c.Close()
					}
				}
			}()
			timer.Reset(wait)
		case got := <-results:
			if got.err == nil {
				return got.c, nil
			}
			if first == nil {
				first = got.err
			}
			if running--; running == 0 && next == len(addrs) {
				return nil, first
			}
			timer.Reset(0)
		case <-ctx.Done():
			if first == nil {
				first = ctx.Err()
			}
			return nil, &net.OpError{Op: "dial", Net: "tcp", Err: first}
		}
	}
}

func (r *resolver) dialOne(ctx context.Context, addr netip.Addr) (net.Conn, error) {
	d := net.Dialer{Control: r.control}
	return d.DialContext(ctx, "tcp", net.JoinHostPort(addr.Unmap().String(), r.port))
}

// alternate has the two families take turns, so that one that leads nowhere costs one wait. The order within a family, and
// which begins, are the resolver's.
func alternate(addrs []netip.Addr) []netip.Addr {
	var same, other []netip.Addr
	for _, a := range addrs {
		if a.Unmap().Is4() == addrs[0].Unmap().Is4() {
			same = append(same, a)
		} else {
			other = append(other, a)
		}
	}
	out := make([]netip.Addr, 0, len(addrs))
	for len(same)+len(other) > 0 {
		if len(same) > 0 {
			out, same = append(out, same[0]), same[1:]
		}
		if len(other) > 0 {
			out, other = append(out, other[0]), other[1:]
		}
	}
	return out
}

// stale counts the lookups of an agent's backend that fail while its last known addresses
// do, and logs the first one and the end: else nobody would hear of it before it is too late.
func (s *Server) stale(agent, host string) func(error) {
	var failing atomic.Bool
	backend := []zap.Field{zap.String("agent", agent), zap.String("backend", host)}
	return func(err error) {
		switch {
		case err == nil:
			if failing.Swap(false) {
				s.log.Info("a backend's name is found again", backend...)
			}
			return
		case !failing.Swap(true):
			s.log.Warn("a backend's name cannot be looked up; its last known addresses are used",
				append(slices.Clone(backend), zap.Duration("at_most", knownAddresses), zap.Error(err))...)
		}
		s.meters.stale.get(staleKey{agent, host}).Inc()
	}
}
