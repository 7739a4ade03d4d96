package logging

import (
	"bytes"
	"io"
	"sync"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

const (
	// bufferSize bounds the lines that wait for the writer below, in bytes. It is some
	// thousands of lines.
	bufferSize = 1 << 20
	// reserve is what of it is kept for warnings and errors.
	reserve = bufferSize / 4
	// flushTime bounds Sync and Close: what nobody has taken by then is lost.
	flushTime = 2 * time.Second
)

// Writer passes lines on to another writer and never waits for it: lines stand in line,
// and one goroutine writes them in their order. What finds the line full, and what the
// writer below does not take (a full disk, a reader that left), is dropped and counted.
// It is safe for concurrent use.
type Writer struct {
	w     io.Writer
	limit int
	lost  func(n uint64) []byte // the line that tells of dropped ones
	time  time.Duration         // of a flush

	mu      sync.Mutex
	wake    sync.Cond
	queue   []byte // lines that wait
	spare   []byte // what the queue was before, to be used again
	writing int    // bytes that are being written
	dropped uint64 // lines, in all
	told    uint64 // of them, those that a line has told of
	done    chan struct{}
	idle    chan struct{} // closed when nothing is left, if somebody waits for it
	closed  bool
}

// Async is [At] with a [Writer] between the logger and w, so that nobody who logs waits
// for w. The logger's Sync waits for what stands in line, two seconds at most; so does
// Close, which ends the writer. Lines of level warn and above find room where others do
// not any more. When lines can be written again after some were dropped, one line says how
// many.
func Async(level zap.AtomicLevel, format string, w io.Writer) (*zap.Logger, *Writer) {
	enc := encoder(format)
	lines := newWriter(w, bufferSize, func(n uint64) []byte {
		b, err := enc.Clone().EncodeEntry(zapcore.Entry{Level: zapcore.WarnLevel, Time: time.Now(), Message: "log lines were dropped: they were not taken in time"},
			[]zapcore.Field{zap.Uint64("lines", n)})
		if err != nil {
			return nil
		}
		defer b.Free()
		return bytes.Clone(b.Bytes())
	})
	upTo := func(low bool) zap.LevelEnablerFunc {
		return func(l zapcore.Level) bool { return level.Enabled(l) && (l < zapcore.WarnLevel) == low }
	}
	return zap.New(zapcore.NewTee(
		zapcore.NewCore(enc, share{lines, reserve}, upTo(true)),
		zapcore.NewCore(enc.Clone(), share{lines, 0}, upTo(false)),
	)), lines
}

// share is a writer's line of which a part is kept for others.
type share struct {
	*Writer
	kept int
}

func (s share) Write(p []byte) (int, error) {
	s.put(p, s.kept)
	return len(p), nil
}

func newWriter(w io.Writer, limit int, lost func(uint64) []byte) *Writer {
	l := &Writer{w: w, limit: limit, lost: lost, time: flushTime, done: make(chan struct{})}
	l.wake.L = &l.mu
	go l.run()
	return l
}

// Write puts a line in line. It never fails and never waits.
func (l *Writer) Write(p []byte) (int, error) {
	l.put(p, 0)
	return len(p), nil
}

func (l *Writer) put(p []byte, kept int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || len(l.queue)+l.writing+len(p) > l.limit-kept {
		l.dropped++
		return
	}
	if len(l.queue) == 0 {
		l.wake.Signal()
	}
	l.queue = append(l.queue, p...)
}

// Dropped is how many lines nobody will see.
func (l *Writer) Dropped() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.dropped
}

// Sync waits until what stands in line was written, two seconds at most. It never fails.
func (l *Writer) Sync() error {
	l.mu.Lock()
	if len(l.queue) == 0 && l.writing == 0 {
		l.mu.Unlock()
		return nil
	}
	if l.idle == nil {
		l.idle = make(chan struct{})
	}
	idle := l.idle
	l.mu.Unlock()
	late := time.NewTimer(l.time)
	defer late.Stop()
	select {
	case <-idle:
	case <-late.C:
	}
	return nil
}

// Close is Sync, and then the end of the goroutine, unless the writer below holds it.
// Lines that come afterwards are dropped.
func (l *Writer) Close() error {
	_ = l.Sync()
	l.mu.Lock()
	l.closed = true
	l.wake.Signal()
	l.mu.Unlock()
	late := time.NewTimer(l.time / 4)
	defer late.Stop()
	select {
	case <-l.done:
	case <-late.C:
	}
	return nil
}

// run writes what stands in line, all of it at once.
func (l *Writer) run() {
	defer close(l.done)
	broken := false // the last write ended within a line
	whole := true   // it took all
	for {
		l.mu.Lock()
		for len(l.queue) == 0 && !l.closed && (!whole || l.dropped == l.told) {
			if l.idle != nil {
				close(l.idle)
				l.idle = nil
			}
			l.wake.Wait()
		}
		if len(l.queue) == 0 && (!whole || l.dropped == l.told) {
			l.mu.Unlock()
			return
		}
		// What is told of is what was dropped before these lines could be written.
		told, all := l.told, l.dropped
		batch := l.queue
		l.queue, l.spare = l.spare[:0], nil
		l.writing = max(1, len(batch)) // nobody who waits takes it for idle
		l.mu.Unlock()

		lost := uint64(0)
		if len(batch) > 0 {
			lost, whole = l.write(batch, &broken)
		}
		if whole && all > told {
			told = all
			if line := l.lost(all - l.told); line != nil {
				n, err := l.w.Write(line)
				broken = n > 0 && n < len(line)
				if err != nil { // nobody has heard of them
					told, whole = l.told, false
				}
			}
		}
		l.mu.Lock()
		l.told = told
		l.dropped += lost
		l.writing = 0
		if cap(batch) <= 64<<10 { // what a burst took is given back
			l.spare = batch[:0]
		}
		l.mu.Unlock()
	}
}

// write writes lines and reports how many of them were lost, and whether none was.
func (l *Writer) write(b []byte, broken *bool) (lost uint64, whole bool) {
	if *broken {
		if _, err := l.w.Write([]byte("\n")); err != nil {
			return uint64(bytes.Count(b, []byte("\n"))), false // #nosec G115 -- not negative
		}
		*broken = false
	}
	n, err := l.w.Write(b)
	if n = min(max(n, 0), len(b)); err == nil && n == len(b) {
		return 0, true
	}
	*broken = n > 0 && b[n-1] != '\n'
	return uint64(bytes.Count(b[n:], []byte("\n"))), false // #nosec G115 -- not negative
}
