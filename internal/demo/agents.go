package demo

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/valyala/fasthttp"
	"github.com/valyala/fasthttp/fasthttputil"
)

// HumanPace is how long a streaming agent takes for a word, so that a person
// sees a stream as one.
const HumanPace = 25 * time.Millisecond

// Agents are the embedded agents. They start when they are first called.
type Agents struct {
	pace time.Duration

	mu      sync.Mutex
	closed  bool
	running map[string]*running
}

type running struct {
	ln     *fasthttputil.InmemoryListener
	server *fasthttp.Server
	done   chan struct{}
}

// New makes agents that take pace for each word; 0 streams as fast as the
// client reads.
func New(pace time.Duration) *Agents {
	return &Agents{pace: pace, running: map[string]*running{}}
}

var errClosed = errors.New("the demo agents are closed")

// Dial connects to the agent of a protocol.
func (a *Agents) Dial(_ context.Context, protocol string) (net.Conn, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return nil, errClosed
	}
	r := a.running[protocol]
	if r == nil {
		h := Handler(protocol, a.pace)
		if h == nil {
			return nil, fmt.Errorf("there is no demo agent for protocol %q", protocol)
		}
		r = &running{
			ln: fasthttputil.NewInmemoryListener(), done: make(chan struct{}),
			server: &fasthttp.Server{Handler: h, NoDefaultServerHeader: true, MaxRequestBodySize: 64 << 20, CloseOnShutdown: true, Logger: silence{}},
		}
		a.running[protocol] = r
		go func() {
			defer close(r.done)
			_ = r.server.Serve(r.ln)
		}()
	}
	return r.ln.Dial()
}

// silence takes fasthttp's messages: a client that left is no news.
type silence struct{}

// Printf implements fasthttp.Logger.
func (silence) Printf(string, ...any) {}

// Close stops the agents.
func (a *Agents) Close() {
	a.mu.Lock()
	a.closed = true
	all := a.running
	a.running = nil
	a.mu.Unlock()
	for _, r := range all {
		_ = r.ln.Close()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		_ = r.server.ShutdownWithContext(ctx)
		cancel()
		<-r.done
	}
}
