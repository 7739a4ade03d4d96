package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// process is a child.
type process struct {
	cmd  *exec.Cmd
	addr string
	done chan struct{}
}

// start runs a command. One that chooses its own port prints it as its first
// line; for others addr is where they will listen.
func start(addr string, stderr io.Writer, name string, args ...string) (*process, error) {
	p := &process{cmd: exec.Command(name, args...), addr: addr, done: make(chan struct{})} // #nosec G204 -- our own children
	p.cmd.Stderr = stderr
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var out io.ReadCloser
	if addr == "" {
		var err error
		if out, err = p.cmd.StdoutPipe(); err != nil {
			return nil, err
		}
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	if out != nil {
		line, err := bufio.NewReader(out).ReadString('\n')
		if err != nil {
			_ = p.cmd.Process.Kill()
			return nil, fmt.Errorf("%s did not start: %w", name, err)
		}
		p.addr = strings.TrimSpace(line)
	}
	go func() {
		_ = p.cmd.Wait()
		close(p.done)
	}()
	return p, p.ready()
}

// ready waits until somebody listens.
func (p *process) ready() error {
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		c, err := net.Dial("tcp", p.addr)
		if err == nil {
			return c.Close()
		}
		select {
		case <-p.done:
			return fmt.Errorf("%s ended: %v", p.cmd.Path, p.cmd.ProcessState)
		default:
		}
		if time.Now().After(end) {
			p.stop()
			return err
		}
	}
}

func (p *process) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(2 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}

// cpu is the time that a process has spent.
type cpu struct{ total, system time.Duration }

func (a cpu) minus(b cpu) cpu { return cpu{a.total - b.total, a.system - b.system} }

// tick is the unit of /proc/<pid>/stat, USER_HZ, which is 100 on every Linux
// that Go runs on.
const tick = 10 * time.Millisecond

// cpu reads the process's CPU clock, which counts nanoseconds. What of it was
// spent in the kernel is known in ticks only, from field 15 of
// /proc/<pid>/stat, counted behind the name, which may hold anything.
func (p *process) cpu() (cpu, error) {
	pid := p.cmd.Process.Pid
	var now unix.Timespec
	// The clock of another process, as clock_getcpuclockid(3) names it.
	if err := unix.ClockGettime(int32(^pid<<3|2), &now); err != nil { // #nosec G115 -- a pid is small
		return cpu{}, fmt.Errorf("CPU clock of %d: %w", pid, err)
	}
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return cpu{}, err
	}
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(f) < 13 {
		return cpu{}, fmt.Errorf("unreadable stat: %q", b)
	}
	system, err := strconv.Atoi(f[12])
	if err != nil {
		return cpu{}, err
	}
	return cpu{time.Duration(now.Nano()), time.Duration(system) * tick}, nil
}

// memory is the resident set in MB, as /proc tells it.
func (p *process) memory() float64 {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(p.cmd.Process.Pid) + "/status")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			n, _ := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(v), " kB"))
			return float64(n) / 1024
		}
	}
	return 0
}

// freeAddress is a port for those who must be told theirs.
func freeAddress() (string, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer ln.Close()
	return ln.Addr().String(), nil
}

// house holds the children.
type house struct {
	dir string
	mu  sync.Mutex
	all []*process
}

func (h *house) add(p *process, err error) (*process, error) {
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	h.all = append(h.all, p)
	h.mu.Unlock()
	return p, nil
}

func (h *house) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, p := range h.all {
		p.stop()
	}
	h.all = nil
}
