package logging

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// sink is a writer under a test's control: gate holds writes, room is how many bytes it
// takes before its disk is full, negative for all.
type sink struct {
	mu   sync.Mutex
	b    bytes.Buffer
	gate chan struct{}
	room int
}

func (s *sink) Write(p []byte) (int, error) {
	if s.gate != nil {
		<-s.gate
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.room >= 0 && len(p) > s.room {
		n := s.room
		s.b.Write(p[:n])
		s.room = 0
		return n, syscall.ENOSPC
	}
	if s.room >= 0 {
		s.room -= len(p)
	}
	return s.b.Write(p)
}

func (s *sink) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func async(t *testing.T, w io.Writer) (*zap.Logger, *Writer) {
	t.Helper()
	level, err := Level("info")
	if err != nil {
		t.Fatal(err)
	}
	return Async(level, "json", w)
}

// numbers reads the n of every line, and the sum of lines that were told to be dropped.
func numbers(t *testing.T, text string) (ns []int, told int) {
	t.Helper()
	for l := range strings.Lines(text) {
		var line struct {
			Message  string
			N, Lines int
		}
		if err := json.Unmarshal([]byte(l), &line); err != nil {
			t.Fatalf("%v: %q", err, l)
		}
		if strings.Contains(line.Message, "dropped") {
			told += line.Lines
			continue
		}
		ns = append(ns, line.N)
	}
	return ns, told
}

// TestLinesKeepTheirOrder holds that all lines arrive, errors and others, in order.
func TestLinesKeepTheirOrder(t *testing.T) {
	t.Parallel()
	s := &sink{room: -1}
	log, w := async(t, s)
	log.Debug("not this")
	for i := range 1000 {
		if i%3 == 0 {
			log.Error("line", zap.Int("n", i))
		} else {
			log.Info("line", zap.Int("n", i))
		}
	}
	_ = log.Sync()
	ns, told := numbers(t, s.String())
	if len(ns) != 1000 || told != 0 || w.Dropped() != 0 {
		t.Fatalf("%d lines, told %d, dropped %d", len(ns), told, w.Dropped())
	}
	for i, n := range ns {
		if n != i {
			t.Fatalf("line %d at %d", n, i)
		}
	}
	_ = w.Close()
	log.Info("late")
	if w.Dropped() != 1 {
		t.Error("a line behind the end is not counted")
	}
}

// TestStuckLogDelaysNobody logs far more than fits while nothing is taken, and holds that
// every line returns, what is lost is counted and told once, and errors still find room.
func TestStuckLogDelaysNobody(t *testing.T) {
	t.Parallel()
	s := &sink{gate: make(chan struct{}), room: -1}
	log, w := async(t, s)
	const most = 40000
	pad := strings.Repeat("x", 100)
	for i := range most {
		log.Info("line", zap.Int("n", i), zap.String("pad", pad)) // would hang here
	}
	dropped := w.Dropped()
	if dropped == 0 || dropped == most {
		t.Fatalf("%d of %d lines dropped", dropped, most)
	}
	log.Error("line", zap.Int("n", -1))
	if got := w.Dropped(); got != dropped {
		t.Error("an error found no room")
	}
	w.mu.Lock()
	if held := len(w.queue) + w.writing; held > bufferSize {
		t.Errorf("%d bytes stand in line", held)
	}
	w.mu.Unlock()
	close(s.gate)
	_ = w.Close()
	ns, told := numbers(t, s.String())
	if uint64(told) != dropped || len(ns)+told != most+1 {
		t.Errorf("%d lines and %d told, want %d dropped of %d", len(ns), told, dropped, most+1)
	}
	for i, n := range ns[:len(ns)-1] {
		if n != i {
			t.Fatalf("line %d at %d", n, i)
		}
	}
	if ns[len(ns)-1] != -1 {
		t.Error("the error is not the last line")
	}
}

// TestFullDisk holds that lines which could not be written are counted and told when there
// is room again, and that a line that was cut is ended first.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	s := &sink{room: 10}
	log, w := async(t, s)
	for i := range 3 {
		log.Info("line", zap.Int("n", i))
		_ = log.Sync()
	}
	if got := w.Dropped(); got != 3 {
		t.Errorf("%d lines dropped, want 3", got)
	}
	s.mu.Lock()
	s.room = -1
	s.mu.Unlock()
	log.Info("line", zap.Int("n", 3))
	_ = w.Close()
	cut, rest, _ := strings.Cut(s.String(), "\n")
	if len(cut) != 10 {
		t.Errorf("the first line is %q", cut)
	}
	ns, told := numbers(t, rest)
	if fmt.Sprint(ns) != "[3]" || told != 3 {
		t.Errorf("lines %v, told %d", ns, told)
	}
}

// TestEndIsBounded holds that the end of the program waits for a log that nobody takes two
// seconds and a half at most, and that a slow one gets all its lines.
func TestEndIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &sink{gate: make(chan struct{}), room: -1}
		log, w := async(t, s)
		log.Error("line", zap.Int("n", 1))
		start := time.Now()
		_ = w.Close()
		if took := time.Since(start); took != flushTime+flushTime/4 {
			t.Errorf("it took %v", took)
		}
		close(s.gate)
		synctest.Wait()
		<-w.done

		s = &sink{gate: make(chan struct{}), room: -1}
		log, w = async(t, s)
		log.Error("line", zap.Int("n", 1))
		go func() {
			time.Sleep(flushTime / 2) //nolint:forbidigo // the clock is the test's
			close(s.gate)
		}()
		_ = w.Close()
		if ns, _ := numbers(t, s.String()); len(ns) != 1 {
			t.Errorf("lines %v", ns)
		}
	})
}

// TestReaderOfThePipeStopped holds that a pipe which nobody reads, and one whose reader
// left, delays nobody.
func TestReaderOfThePipeStopped(t *testing.T) {
	t.Parallel()
	r, p, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	log, w := async(t, p)
	pad := strings.Repeat("x", 1000)
	for i := range 5000 {
		log.Info("line", zap.Int("n", i), zap.String("pad", pad))
	}
	if w.Dropped() == 0 {
		t.Error("a pipe took 5 MB")
	}
	_ = r.Close() // the write that waits fails
	log.Info("line")
	_ = w.Close()
	if _, err := p.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) {
		t.Errorf("the pipe is not broken: %v", err)
	}
	_ = p.Close()
}

// TestALineAllocatesNothingMore holds the price of the line: that of encoding it.
func TestALineAllocatesNothingMore(t *testing.T) {
	_, w := async(t, io.Discard)
	defer w.Close()
	line := bytes.Repeat([]byte("x"), 400)
	line[399] = '\n'
	for range 1000 {
		w.put(line, reserve)
	}
	if n := testing.AllocsPerRun(1000, func() { w.put(line, reserve) }); n > 0.1 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkLine(b *testing.B) {
	level, _ := Level("info")
	devnull, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer devnull.Close()
	f := func(name string, log *zap.Logger) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				log.Info("request", zap.String("request_id", "req_0123456789abcdef0123456789abcdef"), zap.String("agent", "support"),
					zap.Int("status", 200), zap.Duration("total", time.Second))
			}
		})
	}
	f("sync", At(level, "json", devnull))
	log, w := Async(level, "json", devnull)
	defer w.Close()
	f("async", log)
}
