package proxy

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dragoman-proxy/dragoman/internal/config"
)

// wordy is an endless agent: the nth event of a stream says n, and much besides.
func (b *script) wordy(n int) string {
	s := b.first
	if n > 0 {
		s = b.rest[:strings.Index(b.rest, "\n\n")+2]
	}
	said := "one"
	if n > 0 {
		said = " two"
	}
	return strings.Replace(s, `"`+said+`"`, fmt.Sprintf(`"<%d>%s"`, n, strings.Repeat("x", 8<<10)), 1)
}

// counted checks that a stream says what wordy says from the beginning on, with nothing
// left out, and returns how many events it has.
func counted(t *testing.T, f *face, stream string) int {
	t.Helper()
	text := f.text(strings.ReplaceAll(stream, strings.Repeat("x", 8<<10), ""), true)
	words := strings.Split(strings.TrimSuffix(text, "\n"), ">")
	for i, w := range words[:len(words)-1] {
		if strings.TrimSpace(w) != "<"+strconv.Itoa(i) {
			t.Fatalf("event %d says %.20q", i, w)
		}
	}
	return len(words) - 1
}

// writes sends a piece of a stream and reports whether the proxy still takes it.
func (v *visit) writes(s string) bool {
	_, err := io.WriteString(v.conn, hexChunk(s))
	return err == nil
}

// narrow gives a client's socket a small buffer, so that little is under way to it.
func (c *client) narrow() {
	_ = c.bare().(interface{ SetReadBuffer(int) error }).SetReadBuffer(4 << 10)
}

func readAhead(size config.Size) func(*Server) {
	return func(s *Server) { s.snapshot().conf.Agents[0].ReadAhead = size }
}

// streamScript is the script of a backend that streams.
func streamScript(name string) *script {
	for i := range backendScripts {
		if backendScripts[i].name == name && backendScripts[i].first != "" {
			return &backendScripts[i]
		}
	}
	panic("BUG: " + name + " does not stream")
}

// TestStalledReaderStopsItsBackendAlone: a client that does not read costs one buffer, its
// backend is not read on, and nobody else notices. When it reads again it gets everything.
func TestStalledReaderStopsItsBackendAlone(t *testing.T) {
	t.Parallel()
	const events = 2000 // 16 MiB, far more than what the kernel keeps on the way
	for _, name := range []string{"chat", "responses", "swarms"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := streamScript(name)
			var wrote atomic.Int64
			back := stage(t, func(v *visit) {
				v.open()
				if strings.Contains(string(v.body), "good") {
					v.chunk(b.first)
					v.chunk(b.rest)
					v.end()
					return
				}
				for n := range events {
					if !v.writes(b.wordy(n)) {
						v.hangs = true
						return
					}
					wrote.Store(int64(n + 1))
				}
				v.chunk(b.rest[strings.Index(b.rest, "\n\n")+2:])
				v.end()
			})
			r := start(t, agentYAML(name, back.addr))
			f := clientFaces[0]
			body, headers := f.ask("hello", true)
			bad := r.dial()
			bad.send("POST", f.path, body, headers)
			for seen := int64(-1); seen != wrote.Load() || seen == 0; { // until it is stuck
				seen = wrote.Load()
				time.Sleep(50 * time.Millisecond) //nolint:forbidigo // nothing tells that nothing happens
				if seen == events {
					t.Fatal("the backend of a stalled client was read to its end")
				}
			}
			for range 20 {
				good, headers := f.ask("good", true)
				if got := r.post(f.path, good, headers); !f.whole(got.body) || f.text(got.body, true) != "one two" {
					t.Fatalf("beside a stalled client: %q", got.body)
				}
			}
			got := bad.reply()
			if n := counted(t, &f, got.body); n != events || !f.whole(got.body) {
				t.Errorf("%d events", n)
			}
			if line := r.waitLog(21); line["outcome"] != "completed" {
				t.Errorf("logged %v", line)
			}
		})
	}
}

// TestCyclsIsReadAhead: a Cycls server throws away what is not read, so it is read to its
// end although the client reads nothing; who reads later has lost nothing.
func TestCyclsIsReadAhead(t *testing.T) {
	t.Parallel()
	const events = 1000
	overEveryWire(t, func(t *testing.T, start starter) {
		for _, f := range []face{clientFaces[0], clientFaces[5]} { // translated, and passed through
			b := streamScript("cycls")
			done := make(chan struct{})
			back := stage(t, func(v *visit) {
				v.open()
				for n := range events {
					if !v.writes(b.wordy(n)) {
						v.hangs = true
						v.t.Error("the proxy closed the connection")
						break
					}
				}
				v.chunk(b.rest[strings.Index(b.rest, "\n\n")+2:])
				v.end()
				close(done)
			})
			r := start(t, agentYAML("cycls", back.addr), readAhead(64<<20))
			c := r.dial()
			body, headers := f.ask("hello", true)
			c.send("POST", f.path, body, headers)
			<-done
			waitFor(t, "the backend's connection to come back", func() bool { return r.first().backends[0].origin.idleConns() == 1 })
			got := c.reply()
			if n := counted(t, &f, got.body); n != events || !f.whole(got.body) {
				t.Errorf("%s: %d events", f.name, n)
			}
			line := r.waitLog(1)
			if line["outcome"] != "completed" || line["bytes_out"].(int64) < int64(len(got.body)) {
				t.Errorf("%s: logged %v", f.name, line)
			}
			c.send("GET", "/v1/models", "", "")
			if again := c.reply(); again.status != 200 {
				t.Errorf("%s: again: %d", f.name, again.status)
			}
		}
	})
}

// TestReaderBehindHoldsNoPlace: once the agent has been heard, its place and those within the
// limits are free for others, although the client has not read its answer yet.
func TestReaderBehindHoldsNoPlace(t *testing.T) {
	t.Parallel()
	const events = 2000 // 16 MiB, far more than what the kernel keeps on the way
	b := streamScript("cycls")
	back := stage(t, func(v *visit) {
		v.open()
		n := events
		if strings.Contains(string(v.body), "good") {
			n = 1
		}
		for i := range n {
			v.writes(b.wordy(i))
		}
		v.chunk(b.rest[strings.Index(b.rest, "\n\n")+2:])
		v.end()
	})
	r := start(t, agentYAML("cycls", back.addr, "balance: {max_concurrent: 1}", "limits: {concurrent: 1}"), readAhead(64<<20))
	f := clientFaces[0]
	slow := r.dial()
	body, headers := f.ask("hello", true)
	slow.send("POST", f.path, body, headers)
	waitFor(t, "the backend's connection to come back", func() bool { return r.first().backends[0].origin.idleConns() == 1 })
	waitFor(t, "the place to be free", func() bool { return r.first().set.Members()[0].Running() == 0 })
	good, headers := f.ask("good", true)
	if got := r.post(f.path, good, headers); got.status != 200 || !f.whole(got.body) {
		t.Errorf("beside a slow client: %d %q", got.status, got.body)
	}
	if n := r.held().running; n != 1 {
		t.Errorf("%d calls run, want that of the slow client", n)
	}
	if got := slow.reply(); counted(t, &f, got.body) != events || !f.whole(got.body) {
		t.Error("the slow client lost something")
	}
}

// TestTooSlowReaderIsCutWithTheTruth: who falls further behind than it may loses the rest,
// gets all that was read for it, and is told. The agent is let go at once.
func TestTooSlowReaderIsCutWithTheTruth(t *testing.T) {
	t.Parallel()
	overEveryWire(t, func(t *testing.T, start starter) {
		for _, f := range clientFaces {
			b := streamScript("cycls")
			cut := make(chan struct{})
			back := stage(t, func(v *visit) {
				v.hangs = true
				v.open()
				for n := 0; v.writes(b.wordy(n)); n++ {
				}
				close(cut)
			})
			r := start(t, agentYAML("cycls", back.addr), readAhead(256<<10))
			c := r.dial()
			body, headers := f.ask("hello", true)
			c.send("POST", f.path, body, headers)
			<-cut
			got := c.reply()
			if n := counted(t, &f, got.body); got.status != 200 || n < 30 || !f.failed(got.body) || !strings.Contains(got.body, "fell more than 256KiB behind") && f.name != "cycls" {
				t.Errorf("%s: %d, %d events, …%q", f.name, got.status, n, got.body[max(0, len(got.body)-500):])
			}
			if _, err := c.r.ReadByte(); err == nil {
				t.Errorf("%s: the connection stays open", f.name)
			}
			if line := r.waitLog(1); line["outcome"] != "client_gone" || line["code"] != "client_too_slow" || line["status"] != int64(200) {
				t.Errorf("%s: logged %v", f.name, line)
			}
		}
	})
}

// TestReaderBehindMayLeave: at the bound it has the time of one write to take what is left;
// then, as when it closes, all ends.
func TestReaderBehindMayLeave(t *testing.T) {
	t.Parallel()
	overEveryWire(t, func(t *testing.T, start starter) {
		for _, how := range []string{"never reads", "never reads, below the bound", "closes"} {
			b := streamScript("cycls")
			cut, enough := make(chan struct{}), make(chan struct{})
			back := stage(t, func(v *visit) {
				v.hangs = true
				v.open()
				for n := 0; v.writes(b.wordy(n)); n++ {
					if n == 1000 {
						close(enough)
					}
					if n == 1000 && how == "never reads, below the bound" {
						v.gone()
						break
					}
				}
				close(cut)
			})
			size := config.Size(256 << 10)
			if how != "never reads" {
				size = 64 << 30
			}
			settings := "timeouts: {write: 200ms}"
			if how == "closes" {
				settings = "timeouts: {write: 30s}"
			}
			r := start(t, withServer(settings, agentYAML("cycls", back.addr)), readAhead(size))
			c := r.dial()
			c.narrow()
			c.send("POST", "/v1/chat/completions", chatHelloStream, "")
			if how == "closes" {
				<-enough
				_ = c.Close()
			}
			<-cut
			if line := r.waitLog(1); line["outcome"] != "client_gone" || line["code"] == "client_too_slow" && how != "never reads" {
				t.Errorf("%s: logged %v", how, line)
			}
			waitFor(t, "the client's connection", func() bool { return r.open() == 0 })
		}
	})
}

// TestShutdownDoesNotWaitForReadersBehind: they have the time of a write.
func TestShutdownDoesNotWaitForReadersBehind(t *testing.T) {
	t.Parallel()
	b := streamScript("cycls")
	stuck := make(chan struct{})
	back := stage(t, func(v *visit) {
		v.open()
		for n := range 1000 {
			v.writes(b.wordy(n))
		}
		close(stuck)
		v.gone()
	})
	r := start(t, withServer("timeouts: {write: 200ms}", agentYAML("cycls", back.addr)), readAhead(64<<20))
	c := r.dial()
	c.narrow()
	c.send("POST", "/v1/chat/completions", chatHelloStream, "")
	<-stuck
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := r.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	r.waitLog(1)
}

// TestAheadKeepsTheOrder: whatever the client's pace, it gets what was written, in its
// order, and the goroutine that helps is gone when it has caught up.
func TestAheadKeepsTheOrder(t *testing.T) {
	t.Parallel()
	for _, network := range []string{"tcp", "unix"} {
		t.Run(network, func(t *testing.T) {
			t.Parallel()
			rnd := rand.New(rand.NewPCG(1, 2)) // #nosec G404 -- not for secrets
			ours, theirs := connPair(t, network)
			tuneAccepted(ours, 0)
			_ = theirs.(interface{ SetReadBuffer(int) error }).SetReadBuffer(256 << 10)
			r := start(t, agentYAML("chat", "127.0.0.1:1"))
			a := newAhead(r.newCall(), ours)

			// A client that keeps up needs no help.
			b := make([]byte, 1000)
			for range 100 {
				if n, err := a.write(b); n != len(b) || err != nil || a.idle != nil {
					t.Fatal("a goroutine for a client that keeps up", n, err)
				}
				if _, err := io.ReadFull(theirs, b); err != nil {
					t.Fatal(err)
				}
			}

			var sent, got bytes.Buffer
			read := make(chan int)
			done := make(chan struct{})
			go func() {
				defer close(done)
				for n := range read {
					_, _ = io.CopyN(&got, theirs, int64(n))
				}
			}()
			due := 0
			for range 300 {
				b := make([]byte, rnd.IntN(40<<10))
				for i := range b {
					b[i] = byte(rnd.Uint32())
				}
				sent.Write(b)
				due += len(b)
				if _, err := a.write(b); err != nil {
					t.Fatal(err)
				}
				if due > 4<<20 || rnd.IntN(10) == 0 {
					n := rnd.IntN(due + 1)
					due -= n
					read <- n
				}
				if a.behind() == 0 && rnd.IntN(2) == 0 {
					if err := a.wait(); err != nil {
						t.Fatal(err)
					}
				}
			}
			if a.idle == nil {
				t.Error("the client was never behind")
			}
			read <- due
			close(read)
			<-done
			if err := a.wait(); err != nil || a.behind() != 0 || a.running || a.waiting != nil {
				t.Errorf("%v, %d behind", err, a.behind())
			}
			if !bytes.Equal(sent.Bytes(), got.Bytes()) {
				t.Error("the client did not get what was written")
			}
			if n, err := a.write([]byte("x")); n != 1 || err != nil {
				t.Errorf("after all: %d %v", n, err)
			}
		})
	}
}

// TestAheadCostsNothingForClientsThatKeepUp: no allocation a write, and no goroutine.
func TestAheadCostsNothingForClientsThatKeepUp(t *testing.T) {
	r := start(t, agentYAML("chat", "127.0.0.1:1"))
	ours, theirs := connPair(t, "tcp")
	a := newAhead(r.newCall(), ours)
	b := make([]byte, 100)
	if n := testing.AllocsPerRun(100, func() {
		_, _ = a.write(b)
		_, _ = io.ReadFull(theirs, b)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if a.idle != nil {
		t.Error("a goroutine")
	}
}

// TestAheadTellsWhatBroke: what the goroutine finds out ends the call, and nothing is
// written behind a piece that went out in part.
func TestAheadTellsWhatBroke(t *testing.T) {
	t.Parallel()
	r := start(t, withServer("timeouts: {write: 50ms}", agentYAML("chat", "127.0.0.1:1")))
	ours, theirs := connPair(t, "tcp")
	_ = theirs.(*net.TCPConn).SetReadBuffer(4 << 10)
	c := r.newCall()
	a := newAhead(c, ours)
	for a.behind() < 8<<20 {
		if _, err := a.write(make([]byte, 64<<10)); err != nil {
			break
		}
	}
	err := a.wait()
	if err == nil || !strings.Contains(err.Error(), "took nothing for 50ms") || c.cancel.Err() == nil {
		t.Error(err, c.cancel.Err())
	}
	if n, again := a.write([]byte("x")); n != 0 || again != err {
		t.Errorf("behind it: %d %v", n, again)
	}
}

// TestReaderBehindThatCloses left before it had its answer, also when the agent has said
// all of it.
func TestReaderBehindThatCloses(t *testing.T) {
	t.Parallel()
	b := streamScript("cycls")
	for _, f := range []face{clientFaces[0], clientFaces[5]} {
		for _, ends := range []bool{true, false} {
			done := make(chan struct{})
			back := stage(t, func(v *visit) {
				v.open()
				for n := range 600 {
					v.writes(b.wordy(n))
				}
				v.chunk(b.rest[strings.Index(b.rest, "\n\n")+2:])
				if ends {
					v.end()
				}
				close(done)
				v.gone()
			})
			r := start(t, agentYAML("cycls", back.addr, "keep_alive: 0s"), readAhead(64<<20))
			c := r.dial()
			c.narrow()
			body, headers := f.ask("hello", true)
			c.send("POST", f.path, body, headers)
			<-done
			time.Sleep(100 * time.Millisecond) //nolint:forbidigo // so that the proxy has read it; no test fails if not
			_ = c.Close()
			if line := r.waitLog(1); line["outcome"] != "client_gone" || line["status"] != int64(499) {
				t.Errorf("%s, ends=%t: logged %v", f.name, ends, line)
			}
		}
	}
}

// TestAheadHurriesAtTheEnd: who reads a little all the time has no more than the time of one
// write for all that is left of a stream that failed.
func TestAheadHurriesAtTheEnd(t *testing.T) {
	t.Parallel()
	r := start(t, withServer("timeouts: {write: 100ms}", agentYAML("chat", "127.0.0.1:1")))
	ours, theirs := connPair(t, "unix")
	a := newAhead(r.newCall(), ours)
	if _, err := a.write(make([]byte, 256<<20)); err != nil {
		t.Fatal(err)
	}
	a.hurry()
	end := make(chan error, 1)
	go func() {
		end <- a.wait()
		_ = ours.Close() // nothing more comes: the reader below is not left waiting
	}()
	b := make([]byte, 1<<10)
	for {
		select {
		case err := <-end:
			if err == nil {
				t.Error("it had all the time that it wanted")
			}
			return
		default:
			_, _ = theirs.Read(b)
		}
	}
}
