package main

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// check looks at an answer's body; thorough is for the first one of a series.
type check func(body []byte, thorough bool) error

// client is one keep-alive connection.
type client struct {
	c    net.Conn
	buf  []byte // what was read: buf[:n]
	n    int
	body []byte // a chunked body, put together
}

// answerLimit is how long an answer may take.
const answerLimit = 20 * time.Second

func dial(addr string) (*client, error) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	return &client{c: c, buf: make([]byte, 64<<10)}, nil
}

// ask sends a request and returns the body of its answer, valid until the next.
func (c *client) ask(request []byte) ([]byte, error) {
	if _, err := c.c.Write(request); err != nil {
		return nil, err
	}
	c.n = 0
	var head int
	for {
		if err := c.more(); err != nil {
			return nil, err
		}
		if i := bytes.Index(c.buf[:c.n], []byte("\r\n\r\n")); i >= 0 {
			head = i + 4
			break
		}
	}
	h := c.buf[:head]
	if !bytes.HasPrefix(h, []byte("HTTP/1.1 200 ")) {
		return nil, fmt.Errorf("%w: %.1500q", errAnswer, c.buf[:c.n])
	}
	if bytes.Contains(h, []byte("Transfer-Encoding: chunked\r\n")) {
		return c.chunked(head)
	}
	length, err := contentLength(h)
	if err != nil || length == 0 {
		return nil, fmt.Errorf("%w: no length: %q", errAnswer, h)
	}
	for c.n < head+length {
		if err := c.more(); err != nil {
			return nil, err
		}
	}
	if c.n > head+length {
		return nil, fmt.Errorf("%w: it goes on behind its end: %q", errAnswer, c.buf[head+length:c.n])
	}
	return c.buf[head:c.n], nil
}

// chunked puts a chunked body together that starts at the given place.
func (c *client) chunked(at int) ([]byte, error) {
	c.body = c.body[:0]
	for {
		size := -1
		line := bytes.Index(c.buf[at:c.n], []byte("\r\n"))
		if line >= 0 {
			n, err := strconv.ParseUint(string(c.buf[at:at+line]), 16, 31)
			if err != nil {
				return nil, fmt.Errorf("%w: chunk size %q", errAnswer, c.buf[at:at+line])
			}
			size = int(n)
		}
		end := at + line + 2 + size + 2
		if size < 0 || c.n < end {
			// What is done with makes room.
			if at > 0 {
				c.n = copy(c.buf, c.buf[at:c.n])
				at = 0
			}
			if err := c.more(); err != nil {
				return nil, err
			}
			continue
		}
		c.body = append(c.body, c.buf[at+line+2:end-2]...)
		if string(c.buf[end-2:end]) != "\r\n" {
			return nil, fmt.Errorf("%w: broken chunk", errAnswer)
		}
		if size == 0 {
			if c.n != end {
				return nil, fmt.Errorf("%w: it goes on behind its end: %q", errAnswer, c.buf[end:c.n])
			}
			return c.body, nil
		}
		at = end
	}
}

func (c *client) more() error {
	if c.n == len(c.buf) {
		c.buf = append(c.buf, make([]byte, len(c.buf))...)
	}
	n, err := c.c.Read(c.buf[c.n:])
	c.n += n
	if n > 0 {
		return nil
	}
	return err
}

// turn is what a series did in one window.
type turn struct {
	n       int // requests
	elapsed time.Duration
	spent   cpu
}

// micros is CPU time a request.
func (t turn) micros() float64 { return float64(t.spent.total.Nanoseconds()) / 1e3 / float64(t.n) }

func (t turn) system() float64 { return float64(t.spent.system.Nanoseconds()) / 1e3 / float64(t.n) }

func (t turn) rate() float64 { return float64(t.n) / t.elapsed.Seconds() }

// prove asks once and looks closely.
func (s *series) prove() error {
	c, err := dial(s.process.addr)
	if err != nil {
		return err
	}
	defer c.c.Close()
	_ = c.c.SetDeadline(time.Now().Add(answerLimit))
	body, err := c.ask(s.request)
	if err != nil {
		return err
	}
	return s.check(body, true)
}

// measured takes the CPU time and the count at both ends of a window in the
// middle of a load that is already steady.
func (s *series) measured(lead, window time.Duration, count *atomic.Int64) (turn, error) {
	time.Sleep(lead)
	spent, err := s.process.cpu()
	if err != nil {
		return turn{}, err
	}
	n, begin := count.Load(), time.Now()
	time.Sleep(window)
	after, err := s.process.cpu()
	if err != nil {
		return turn{}, err
	}
	t := turn{n: int(count.Load() - n), elapsed: time.Since(begin), spent: after.minus(spent)}
	if t.n == 0 {
		return t, errors.New("nothing was answered in time")
	}
	return t, nil
}

// closed is a closed loop: each connection asks again as soon as it was
// answered. Counted is what was answered.
func (s *series) closed(connections int, lead, window time.Duration) (turn, error) {
	var count atomic.Int64
	var over atomic.Bool
	var failure failure
	var wg sync.WaitGroup
	for range connections {
		c, err := dial(s.process.addr)
		if err != nil {
			return turn{}, err
		}
		_ = c.c.SetDeadline(time.Now().Add(lead + window + answerLimit))
		wg.Go(func() {
			defer c.c.Close()
			for !over.Load() {
				body, err := c.ask(s.request)
				if err == nil {
					err = s.check(body, false)
				}
				if err != nil {
					failure.set(err)
					over.Store(true)
					return
				}
				count.Add(1)
			}
		})
	}
	t, err := s.measured(lead, window, &count)
	over.Store(true)
	wg.Wait()
	return t, errors.Join(err, failure.get())
}

// paced starts streams at a fixed rate, whatever becomes of them. Each starts
// somewhere within its slot, so that their events do not all fall on one tick.
// Counted is what was started.
func (s *series) paced(rate int, lead, window time.Duration) (turn, error) {
	var count atomic.Int64
	var over atomic.Bool
	var failure failure
	var streams sync.WaitGroup
	var mu sync.Mutex
	var idle []*client
	one := func() {
		mu.Lock()
		var c *client
		if len(idle) > 0 {
			// The one that has been idle longest, so that none is for long enough
			// to be closed.
			c, idle = idle[0], idle[1:]
		}
		mu.Unlock()
		var err error
		if c == nil {
			if c, err = dial(s.process.addr); err != nil {
				failure.set(err)
				return
			}
			_ = c.c.SetDeadline(time.Now().Add(lead + window + answerLimit))
		}
		body, err := c.ask(s.request)
		if err == nil {
			err = s.check(body, false)
		}
		if err != nil {
			failure.set(err)
			over.Store(true)
			_ = c.c.Close()
			return
		}
		mu.Lock()
		idle = append(idle, c)
		mu.Unlock()
	}
	var pacer sync.WaitGroup
	pacer.Go(func() {
		slot := time.Second / time.Duration(rate)
		random := rand.New(rand.NewPCG(1, 2)) // #nosec G404 -- the same for everybody
		begin := time.Now()
		for i := 0; !over.Load(); i++ {
			due := begin.Add(time.Duration(i)*slot + time.Duration(random.Int64N(int64(slot))))
			time.Sleep(time.Until(due))
			streams.Go(one)
			count.Add(1)
		}
	})
	t, err := s.measured(lead, window, &count)
	over.Store(true)
	pacer.Wait()
	streams.Wait()
	for _, c := range idle {
		_ = c.c.Close()
	}
	return t, errors.Join(err, failure.get())
}

// failure keeps the first error.
type failure struct {
	mu  sync.Mutex
	err error
}

func (f *failure) set(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err == nil {
		f.err = err
	}
}

func (f *failure) get() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

// measure lets the series of a group take turns. A turn in which an answer was
// wrong or late counts for nothing, and a series with more such turns than good
// ones has failed. It reports whether all of them could be measured.
func measure(p *plan, g *group) bool {
	take := func(s *series, lead, window time.Duration) (turn, error) {
		if g.paced {
			return s.paced(p.rate, lead, window)
		}
		return s.closed(p.connections, lead, window)
	}
	for _, s := range g.series {
		if s.err = s.prove(); s.err == nil {
			_, _ = take(s, 0, p.warm) // what is wrong here will be wrong again
		}
	}
	lead, window := p.lead, p.window
	if g.paced {
		lead, window = p.pacedLead, p.pacedWindow
	}
	for i := range p.rounds {
		fmt.Fprintf(os.Stderr, "%s: round %d of %d\n", g.title, i+1, p.rounds)
		for _, s := range g.series {
			if s.err != nil {
				continue
			}
			t, err := take(s, lead, window)
			if err != nil {
				s.lost++
				fmt.Fprintf(os.Stderr, "%s: a turn is lost: %v\n", s.name, err)
				if s.lost > p.rounds/2 {
					s.err = err
				}
				continue
			}
			s.turns = append(s.turns, t)
		}
	}
	ok := true
	for _, s := range g.series {
		if s.err != nil {
			fmt.Fprintf(os.Stderr, "%s: %s: %v\n", g.title, s.name, s.err)
			ok = false
		}
	}
	return ok
}
