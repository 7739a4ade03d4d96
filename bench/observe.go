package main

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"math/bits"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// moreFiles raises the limit of descriptors of this process and its children as far as
// it may.
func moreFiles() error {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return err
	}
	const want = 1 << 16
	more := syscall.Rlimit{Cur: max(want, l.Max), Max: max(want, l.Max)}
	if syscall.Setrlimit(syscall.RLIMIT_NOFILE, &more) == nil {
		return nil // only root may
	}
	l.Cur = l.Max
	return syscall.Setrlimit(syscall.RLIMIT_NOFILE, &l)
}

// sample is what can be seen of the proxy at one moment. Sizes are in bytes.
type sample struct {
	at         time.Time
	rss, pss   float64
	fds        int
	cpu        cpu
	heap       float64 // Go: objects, dead ones that were not collected yet included
	stack      float64
	free       float64 // Go: pages that hold nothing and were not given back to the system
	runtime    float64 // Go: what the runtime needs for itself
	goroutines int
	running    int // requests
	upstream   int // connections to backends, as the kernel sees them
	kept       int // conversations
	evicted    int // conversations that made room for others
}

// observe looks at the proxy; admin is the address of its metrics, ports are those of
// its backends.
func observe(p *process, admin string, ports map[string]bool) (s sample, err error) {
	pid := strconv.Itoa(p.cmd.Process.Pid)
	s.at = time.Now()
	m, err := readMetrics(admin)
	if err != nil {
		return s, err
	}
	s.heap, s.stack = m["go_memstats_heap_alloc_bytes"], m["go_memstats_stack_inuse_bytes"]
	s.free = m["go_memstats_heap_idle_bytes"] - m["go_memstats_heap_released_bytes"]
	for _, name := range []string{"mspan_sys", "mcache_sys", "buck_hash_sys", "gc_sys", "other_sys"} {
		s.runtime += m["go_memstats_"+name+"_bytes"]
	}
	s.goroutines, s.running = int(m["go_goroutines"]), int(m["dragoman_requests_running"])
	s.kept = int(m["dragoman_state_conversations"])
	s.evicted = int(m[`dragoman_state_evicted_total{why="owner"}`] + m[`dragoman_state_evicted_total{why="total"}`])
	if s.cpu, err = p.cpu(); err != nil {
		return s, err
	}
	rollup, err := os.ReadFile("/proc/" + pid + "/smaps_rollup")
	if err != nil {
		return s, err
	}
	s.rss, s.pss = 1024*field(rollup, "Rss:"), 1024*field(rollup, "Pss:")
	names, err := os.ReadDir("/proc/" + pid + "/fd")
	if err != nil {
		return s, err
	}
	s.fds = len(names)
	s.upstream, err = connectionsTo(ports)
	return s, err
}

// field is the number behind a word that begins a line.
func field(b []byte, word string) float64 {
	for line := range bytes.Lines(b) {
		if v, ok := bytes.CutPrefix(line, []byte(word)); ok {
			if f := strings.Fields(string(v)); len(f) > 0 {
				n, _ := strconv.ParseFloat(f[0], 64)
				return n
			}
		}
	}
	return 0
}

// readMetrics reads all series whose labels hold no space.
func readMetrics(admin string) (map[string]float64, error) {
	client := http.Client{Timeout: 10 * time.Second}
	resp, err := client.Get("http://" + admin + "/metrics")
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	out := map[string]float64{}
	for line := range strings.Lines(string(b)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if n, err := strconv.ParseFloat(value, 64); err == nil {
			out[name] = n
		}
	}
	return out, nil
}

// connectionsTo counts the connections that somebody holds to ports of loopback: those
// that are open, and those whose peer has closed.
func connectionsTo(ports map[string]bool) (int, error) {
	b, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		return 0, err
	}
	n := 0
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 4 || f[3] != "01" && f[3] != "08" {
			continue
		}
		_, hex, _ := strings.Cut(f[2], ":")
		port, err := strconv.ParseUint(hex, 16, 16)
		if err == nil && ports[strconv.FormatUint(port, 10)] {
			n++
		}
	}
	return n, nil
}

// kernelMemory is what the machine's sockets hold in buffers, and what the kernel holds
// in objects, of which those of sockets and descriptors are a part.
func kernelMemory() (buffers, objects float64) {
	if b, err := os.ReadFile("/proc/net/sockstat"); err == nil {
		for line := range strings.Lines(string(b)) {
			f := strings.Fields(line)
			for i, w := range f {
				if w == "mem" && f[0] == "TCP:" && i+1 < len(f) {
					n, _ := strconv.ParseFloat(f[i+1], 64)
					buffers = n * float64(os.Getpagesize())
				}
			}
		}
	}
	if b, err := os.ReadFile("/proc/meminfo"); err == nil {
		objects = 1024 * field(b, "Slab:")
	}
	return buffers, objects
}

// histogram counts times, 32 steps to each doubling. Many may add at once.
type histogram struct {
	n    [64 << 5]atomic.Uint64
	most atomic.Int64
}

func (h *histogram) add(d int64) {
	d = max(d, 0)
	for {
		most := h.most.Load()
		if d <= most || h.most.CompareAndSwap(most, d) {
			break
		}
	}
	h.n[bucket(uint64(d))].Add(1)
}

func bucket(v uint64) int {
	if v < 32 {
		return int(v)
	}
	shift := bits.Len64(v) - 6
	return shift<<5 + int(v>>shift)
}

// bucketEnd is the highest value of a bucket.
func bucketEnd(i int) uint64 {
	if i < 64 {
		return uint64(i)
	}
	shift := i>>5 - 1
	return (uint64(i-shift<<5)+1)<<shift - 1
}

func (h *histogram) count() (n uint64) {
	for i := range h.n {
		n += h.n[i].Load()
	}
	return n
}

// quantile is a time that a share q of all do not exceed.
func (h *histogram) quantile(q float64) time.Duration {
	rank := uint64(math.Ceil(q * float64(h.count())))
	var n uint64
	for i := range h.n {
		if n += h.n[i].Load(); n >= rank && n > 0 {
			return time.Duration(min(bucketEnd(i), uint64(h.most.Load())))
		}
	}
	return 0
}

func (h *histogram) String() string {
	return fmt.Sprintf("p50 %s, p99 %s, p99.9 %s, most %s", short(h.quantile(.5)), short(h.quantile(.99)), short(h.quantile(.999)), short(time.Duration(h.most.Load())))
}

func short(d time.Duration) string { return fmt.Sprintf("%.2f ms", float64(d)/1e6) }
