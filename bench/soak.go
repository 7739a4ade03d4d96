package main

import (
	"bytes"
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"text/tabwriter"
	"time"
)

// soak is one run: many clients that do this and that for minutes.
type soak struct {
	streams int
	minutes float64
	binary  string
}

// runSoak looks whether memory and goroutines stay as they are, and whether anything is
// left at the end.
func runSoak(args []string) error {
	var r soak
	flags := flag.NewFlagSet("soak", flag.ContinueOnError)
	flags.IntVar(&r.streams, "streams", 500, "how `many` clients are at work at once")
	flags.Float64Var(&r.minutes, "minutes", 3, "how long")
	flags.StringVar(&r.binary, "dragoman", "", "measure this `binary` instead of building one")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if err := moreFiles(); err != nil {
		return err
	}
	return withHouse(func(h *house) error { return r.run(h) })
}

// The tasks of a client, and how often of a hundred each comes.
const (
	taskStream    = iota // a stream of up to a minute, followed to its end
	taskJSON             // a JSON answer that takes a while
	taskLeave            // leaves in mid-stream
	taskImpatient        // leaves before the first byte
	taskStall            // reads nothing for a while, and then everything
	taskCut              // an agent that breaks off
	numTasks
)

var (
	taskNames  = [numTasks]string{"streams", "JSON answers", "left in mid-stream", "left before the first byte", "stalled readers", "cut by the agent"}
	taskShares = [numTasks]int{56, 16, 10, 8, 5, 5}
)

func anyTask() int {
	n := rand.IntN(100)
	for task, share := range taskShares {
		if n -= share; n < 0 {
			return task
		}
	}
	return taskStream
}

// soakState has conversations kept in so little room that the old ones go from early on.
const soakState = "state: {store: memory, max_bytes: 2MiB, max_bytes_per_key: 2MiB, max_conversation: 1MiB}\n"

var soakFaces = []string{"chat", "responses", "kept"}

var soakAgents = []string{"chat", "cycls", "responses"}

// soaking is what all clients share.
type soaking struct {
	s      *stand
	over   atomic.Bool
	counts [numTasks]atomic.Int64
	failed failure
	wg     sync.WaitGroup
}

// client does tasks until the soak is over; what it is at then it ends.
func (k *soaking) client(i int) {
	for !k.over.Load() {
		task := anyTask()
		f := crowdFaces[soakFaces[rand.IntN(len(soakFaces))]]
		agent := soakAgents[rand.IntN(len(soakAgents))]
		if err := k.do(task, &f, agent, i); err != nil {
			k.failed.set(fmt.Errorf("%s, agent %s, %s: %w", f.path, agent, taskNames[task], err))
		}
		k.counts[task].Add(1)
	}
}

func (k *soaking) do(task int, f *crowdFace, agent string, i int) error {
	seconds := 5 + rand.IntN(55)
	o := order{events: 2 * seconds, every: 500 * time.Millisecond, first: time.Duration(rand.IntN(1000)) * time.Millisecond}
	switch task {
	case taskJSON:
		o = order{first: time.Duration(1+rand.IntN(5)) * time.Second}
	case taskImpatient:
		o.first = time.Minute
	case taskStall:
		o.events, o.every, o.pad = 200, 10*time.Millisecond, 2<<10 // what no buffer takes
	case taskCut:
		o.cut = o.events / 2
	}
	c, err := k.s.dial(k.s.proxy.addr, i)
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := c.Write(f.request(agent, o)); err != nil {
		return err
	}
	_ = c.SetReadDeadline(time.Now().Add(2 * time.Minute))
	r := newLineReader(c)
	switch task {
	case taskJSON:
		_, length, err := readAnswerHead(r)
		if err != nil {
			return err
		}
		body := make([]byte, length)
		n := copy(body, r.buf[r.lo:r.hi])
		if _, err := io.ReadFull(c, body[n:]); err != nil {
			return err
		}
		return f.check(body)
	case taskImpatient:
		time.Sleep(time.Duration(rand.IntN(3000)) * time.Millisecond)
		return nil
	case taskStall:
		time.Sleep(10 * time.Second)
	case taskCut:
		if err := f.follow(r, o.events, func(int, int64) {}); err == nil {
			return errors.New("an answer that broke off looks whole")
		} else if !errors.Is(err, errAnswer) { // told by the face's own failure, not by a broken connection
			return err
		}
		return nil
	case taskLeave:
		stop := time.AfterFunc(time.Duration(1+rand.IntN(seconds))*time.Second, func() { _ = c.Close() })
		defer stop.Stop()
		_ = f.follow(r, o.events, func(int, int64) {})
		return nil
	}
	return f.follow(r, o.events, func(int, int64) {})
}

func (r *soak) run(h *house) error {
	s, err := h.stand(r.binary, soakAgents, false, false, "", soakState)
	if err != nil {
		return err
	}
	for _, face := range soakFaces {
		if err := s.warm(face, soakAgents); err != nil {
			return fmt.Errorf("warming up: %w", err)
		}
	}
	time.Sleep(12 * time.Second) // connections age out, and so do workers
	idle, err := observe(s.proxy, s.admin, s.ports)
	if err != nil {
		return err
	}
	k := &soaking{s: s}
	length := time.Duration(r.minutes * float64(time.Minute))
	start := time.Now()
	for i := range r.streams {
		k.wg.Go(func() {
			time.Sleep(time.Duration(i) * 5 * time.Second / time.Duration(r.streams))
			k.client(i)
		})
	}
	var samples []sample
	t := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	line := func(s sample) {
		fmt.Fprintf(t, "%.0f\t%.1f\t%.1f\t%.1f\t%d\t%d\t%d\t%d\t\n", s.at.Sub(start).Seconds(), s.rss/1e6, s.heap/1e6, s.stack/1e6, s.goroutines, s.fds, s.upstream, s.running)
	}
	fmt.Fprintln(t, "s\tRSS MB\theap MB\tstacks MB\tgoroutines\tdescriptors\tupstream\trequests\t")
	line(idle)
	for n := 1; time.Since(start) < length; n++ {
		time.Sleep(time.Second)
		now, err := observe(s.proxy, s.admin, s.ports)
		if err != nil {
			return err
		}
		samples = append(samples, now)
		if n%5 == 0 {
			line(now)
		}
	}
	k.over.Store(true)
	k.wg.Wait()
	// Keep-alive, and workers of fasthttp that have nothing to do for ten seconds.
	time.Sleep(15 * time.Second)
	end, err := observe(s.proxy, s.admin, s.ports)
	if err != nil {
		return err
	}
	line(end)
	_ = t.Flush()
	for i := range k.counts {
		fmt.Printf("%s: %d\n", taskNames[i], k.counts[i].Load())
	}
	early := append(samples, idle)[len(samples)/3].evicted
	fmt.Printf("conversations: %d kept, %d made room, %d of those in the first third\n", end.kept, end.evicted, early)
	var empty error
	if early == 0 {
		empty = errors.New("the store of conversations was not full in time: whether it stays within its bounds was not seen")
	}
	return errors.Join(k.failed.get(), verdict(samples, idle, end), empty)
}

// flat is by how much the last third of a soak may be above the second.
const flat = .05

func mean(s []sample, f func(sample) float64) float64 {
	sum := 0.
	for i := range s {
		sum += f(s[i])
	}
	return sum / float64(len(s))
}

// lowest is the mean of the lowest quarter. Memory rises and falls with the collector's
// cycles, by half of itself; what is never given back raises the bottom of them.
func lowest(s []sample, f func(sample) float64) float64 {
	s = slices.Clone(s)
	slices.SortFunc(s, func(a, b sample) int { return cmp.Compare(f(a), f(b)) })
	return mean(s[:(len(s)+3)/4], f)
}

// verdict compares the second and the last third, and the end with the beginning.
func verdict(samples []sample, idle, end sample) error {
	n := len(samples) / 3
	if n == 0 {
		return errors.New("the soak was too short to compare anything")
	}
	var all []error
	for _, what := range []struct {
		name string
		mean func([]sample, func(sample) float64) float64
		of   func(sample) float64
	}{
		{"resident memory, where it is lowest", lowest, func(s sample) float64 { return s.rss }},
		{"goroutines", mean, func(s sample) float64 { return float64(s.goroutines) }},
		{"descriptors", mean, func(s sample) float64 { return float64(s.fds) }},
	} {
		before, after := what.mean(samples[n:2*n], what.of), what.mean(samples[2*n:], what.of)
		change := after/before - 1
		fmt.Printf("%s, last third to the second: %+.1f %%\n", what.name, 100*change)
		if change > flat {
			all = append(all, fmt.Errorf("%s: %+.1f %% from the second third to the last", what.name, 100*change))
		}
	}
	// A scrape has a connection and a goroutine of its own.
	const scrape = 2
	if end.upstream != 0 || end.running != 0 || end.goroutines > idle.goroutines+scrape || end.fds > idle.fds+scrape {
		all = append(all, fmt.Errorf("left at the end: %d requests, %d connections to backends, %d goroutines (%d before), %d descriptors (%d before)",
			end.running, end.upstream, end.goroutines, idle.goroutines, end.fds, idle.fds))
	} else {
		fmt.Printf("left at the end: 0 requests, 0 connections to backends, %d goroutines (%d before), %d descriptors (%d before)\n", end.goroutines, idle.goroutines, end.fds, idle.fds)
	}
	return errors.Join(all...)
}

// check looks at a JSON answer.
func (f *crowdFace) check(body []byte) error {
	if !bytes.Contains(body, []byte(f.said)) {
		return fmt.Errorf("%w: no %s in %.500q", errAnswer, f.said, body)
	}
	return nil
}
