package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"text/tabwriter"
	"time"
)

// mostPerStream is what a translated stream may cost in memory, on plain TCP with the
// Chat face: bytes beyond the idle process.
const mostPerStream = 12 << 10

// capacity is one run: many streams that are open at once and slow.
type capacity struct {
	streams int
	face    string
	backend string
	tls     bool
	seconds int
	opening int // streams a second, while they are opened
	check   bool
	binary  string
	profile string // a directory for heap profiles of the proxy
	direct  bool
	setup   string // further lines for the agent
}

// runCapacity measures what many open streams cost.
func runCapacity(args []string) error {
	var r capacity
	flags := flag.NewFlagSet("capacity", flag.ContinueOnError)
	flags.IntVar(&r.streams, "streams", 9000, "how `many` are open at once")
	flags.StringVar(&r.face, "face", "chat", "what clients speak: chat, responses with store: false, or kept, which is responses without")
	flags.StringVar(&r.backend, "backend", "cycls", "what the agent speaks: cycls, chat or responses")
	flags.BoolVar(&r.tls, "tls", false, "clients speak TLS")
	flags.IntVar(&r.seconds, "seconds", 60, "how long all of them are watched")
	flags.IntVar(&r.opening, "opening", 1500, "how many are opened a second")
	flags.BoolVar(&r.check, "check", false, "fail if a stream takes more than 12 KB")
	flags.BoolVar(&r.direct, "direct", false, "also run it without a proxy, to know the delay of the machine itself (chat → chat or responses → responses)")
	flags.StringVar(&r.binary, "dragoman", "", "measure this `binary` instead of building one")
	flags.StringVar(&r.profile, "profile", "", "write heap profiles of the proxy into this `directory`")
	flags.StringVar(&r.setup, "agent", "", "further `settings` of the agent, as in heartbeat: {stream: 1s}")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if _, ok := crowdFaces[r.face]; !ok {
		return fmt.Errorf("no face %q", r.face)
	}
	if err := moreFiles(); err != nil {
		return err
	}
	return withHouse(func(h *house) error { return r.run(h) })
}

// stand is the proxy between clients and backends, and how to reach all of them.
type stand struct {
	proxy    *process
	admin    string
	tls      *tls.Config // nil: plain
	backends map[string]*process
	ports    map[string]bool
}

// stand starts a backend for each protocol and the proxy before them. settings are of each agent, sections of the whole configuration.
func (h *house) stand(binary string, protocols []string, overTLS, profiles bool, settings, sections string) (*stand, error) {
	if binary == "" {
		fmt.Fprintln(os.Stderr, "building dragoman")
		binary = filepath.Join(h.dir, "dragoman")
		if err := buildDragoman(binary); err != nil {
			return nil, err
		}
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	s := &stand{backends: map[string]*process{}, ports: map[string]bool{}}
	agents := ""
	for _, protocol := range protocols {
		p, err := h.add(start("", os.Stderr, self, "crowd", protocol))
		if err != nil {
			return nil, err
		}
		_, port, err := net.SplitHostPort(p.addr)
		if err != nil {
			return nil, err
		}
		s.backends[protocol], s.ports[port] = p, true
		agents += fmt.Sprintf("  - name: %s\n    protocol: %s\n    url: http://%s\n    model: crowd\n", protocol, protocol, p.addr)
		if settings != "" {
			agents += "    " + settings + "\n"
		}
	}
	addr, err := freeAddress()
	if err != nil {
		return nil, err
	}
	if s.admin, err = freeAddress(); err != nil {
		return nil, err
	}
	tlsLines, pprof := "", ""
	if overTLS {
		if s.tls, err = h.certificate(); err != nil {
			return nil, err
		}
		tlsLines = fmt.Sprintf("  tls: {cert_file: %q, key_file: %q}\n", h.file("cert.pem"), h.file("key.pem"))
	}
	if profiles {
		pprof = ", pprof: true"
	}
	conf := fmt.Sprintf("server:\n  listen: %s\n  max_connections: 40000\n%sadmin: {listen: %s%s}\nauth: {mode: none}\nlog: {level: error, access: false}\n%sagents:\n%s",
		addr, tlsLines, s.admin, pprof, sections, agents)
	if err := os.WriteFile(h.file("crowd.yaml"), []byte(conf), 0o600); err != nil {
		return nil, err
	}
	s.proxy, err = h.add(start(addr, os.Stderr, binary, "serve", "-config", h.file("crowd.yaml")))
	return s, err
}

func (h *house) file(name string) string { return filepath.Join(h.dir, name) }

// certificate makes one for the listener, and what its clients need.
func (h *house) certificate() (*tls.Config, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), DNSNames: []string{"bench"}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	if err := os.WriteFile(h.file("cert.pem"), certPEM, 0o600); err != nil {
		return nil, err
	}
	if err := os.WriteFile(h.file("key.pem"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}), 0o600); err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(certPEM)
	return &tls.Config{RootCAs: roots, ServerName: "bench", MinVersion: tls.VersionTLS13}, nil
}

// dial opens a client's connection. Clients come from many addresses, so that the number
// of ports does not bound theirs.
func (s *stand) dial(addr string, i int) (net.Conn, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(1+i%50))}, Timeout: 30 * time.Second}
	c, err := d.Dial("tcp", addr)
	if err == nil && s.tls != nil && addr == s.proxy.addr {
		c = tls.Client(c, s.tls)
	}
	return c, err
}

// ask sends a request on a new connection and follows its stream.
func (s *stand) ask(addr string, f *crowdFace, agent string, o order, i int, seen func(n int, at int64)) error {
	c, err := s.dial(addr, i)
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := c.Write(f.request(agent, o)); err != nil {
		return err
	}
	return f.follow(newLineReader(c), o.events, seen)
}

// warm has the proxy do a little of everything, so that what it loads once is loaded.
func (s *stand) warm(face string, agents []string) error {
	f := crowdFaces[face]
	var wg sync.WaitGroup
	var failed failure
	for i := range 16 {
		wg.Go(func() {
			for j := range 25 {
				if err := s.ask(s.proxy.addr, &f, agents[j%len(agents)], order{events: 4, every: time.Millisecond}, i, func(int, int64) {}); err != nil {
					failed.set(err)
				}
			}
		})
	}
	wg.Wait()
	return failed.get()
}

// open is a crowd of streams: all are opened, at a steady pace, and followed to their end.
type crowd struct {
	opened, done atomic.Int64
	watching     atomic.Bool
	events       atomic.Int64
	delays       histogram // of events while watching
	failed       failure
	wg           sync.WaitGroup
}

func (c *crowd) open(s *stand, addr string, r *capacity, o order) {
	f := crowdFaces[r.face]
	start := time.Now()
	for i := range r.streams {
		time.Sleep(time.Until(start.Add(time.Duration(i) * time.Second / time.Duration(r.opening))))
		c.wg.Go(func() {
			first := true
			err := s.ask(addr, &f, r.backend, o, i, func(_ int, at int64) {
				if first {
					c.opened.Add(1)
					first = false
				}
				if c.watching.Load() {
					c.delays.add(monotonic() - at)
					c.events.Add(1)
				}
			})
			if err != nil {
				c.failed.set(err)
			}
			c.done.Add(1)
		})
	}
}

// until waits for the number of streams that are open to be all of them.
func (c *crowd) until(n int) error {
	for end := time.Now().Add(60 * time.Second); c.opened.Load() < int64(n); time.Sleep(50 * time.Millisecond) {
		if err := c.failed.get(); err != nil {
			return err
		}
		if time.Now().After(end) {
			return fmt.Errorf("%d of %d streams were opened in a minute", c.opened.Load(), n)
		}
	}
	return nil
}

func (r *capacity) order() order {
	opening := r.streams/r.opening + 1
	return order{events: opening + r.seconds + 12, every: time.Second}
}

func (r *capacity) run(h *house) error {
	s, err := h.stand(r.binary, []string{r.backend}, r.tls, r.profile != "", r.setup, "")
	if err != nil {
		return err
	}
	if err := s.warm(r.face, []string{r.backend}); err != nil {
		return fmt.Errorf("warming up: %w", err)
	}
	time.Sleep(6 * time.Second) // its connections to the backend age out
	idle, err := observe(s.proxy, s.admin, s.ports)
	if err != nil {
		return err
	}
	buffers, objects := kernelMemory()
	if err := r.save(s, "idle"); err != nil {
		return err
	}

	c := &crowd{}
	began := time.Now()
	c.open(s, s.proxy.addr, r, r.order())
	if err := c.until(r.streams); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "%d streams are open after %.1f s\n", r.streams, time.Since(began).Seconds())
	time.Sleep(5 * time.Second)
	c.watching.Store(true)
	first, err := observe(s.proxy, s.admin, s.ports)
	if err != nil {
		return err
	}
	time.Sleep(time.Duration(r.seconds) * time.Second)
	last, err := observe(s.proxy, s.admin, s.ports)
	if err != nil {
		return err
	}
	c.watching.Store(false)
	still := r.streams - int(c.done.Load())
	bufs, objs := kernelMemory()
	if err := r.save(s, "open"); err != nil {
		return err
	}
	c.wg.Wait()
	if err := c.failed.get(); err != nil {
		return err
	}
	if still != r.streams {
		return fmt.Errorf("%d of %d streams had ended while they were watched", r.streams-still, r.streams)
	}

	perStream := (last.rss - idle.rss) / float64(r.streams)
	seconds := last.at.Sub(first.at).Seconds()
	spent := last.cpu.minus(first.cpu)
	how := "plain TCP"
	if r.tls {
		how = "TLS"
	}
	fmt.Printf("\n%d streams, %s → %s, %s, an event a second each, watched for %.0f s\n", r.streams, r.face, r.backend, how, seconds)
	t := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "\tidle\topen\ta stream\t")
	row := func(name string, a, b float64) {
		fmt.Fprintf(t, "%s\t%.1f MB\t%.1f MB\t%.2f KB\t\n", name, a/1e6, b/1e6, (b-a)/1024/float64(r.streams))
	}
	row("resident (RSS)", idle.rss, last.rss)
	row("its share (PSS)", idle.pss, last.pss)
	row("Go heap, with what is not collected", idle.heap, last.heap)
	row("Go stacks", idle.stack, last.stack)
	row("Go pages that are free and kept", idle.free, last.free)
	row("Go's own", idle.runtime, last.runtime)
	row("kernel: socket buffers, whole machine", buffers, bufs)
	row("kernel: objects, whole machine", objects, objs)
	fmt.Fprintf(t, "goroutines\t%d\t%d\t%.2f\t\n", idle.goroutines, last.goroutines, float64(last.goroutines-idle.goroutines)/float64(r.streams))
	fmt.Fprintf(t, "descriptors\t%d\t%d\t%.2f\t\n", idle.fds, last.fds, float64(last.fds-idle.fds)/float64(r.streams))
	_ = t.Flush()
	fmt.Printf("CPU of the proxy: %.2f of a core, %.2f of it in the kernel; %.1f µs an event\n",
		spent.total.Seconds()/seconds, spent.system.Seconds()/seconds, spent.total.Seconds()*1e6/float64(c.events.Load()))
	fmt.Printf("events: %d, every one of every stream, in order; delay from the backend's write to the client's read: %s\n", c.events.Load(), &c.delays)

	if r.direct && r.face == r.backend {
		d := &crowd{}
		d.open(s, s.backends[r.backend].addr, r, r.order())
		if err := d.until(r.streams); err != nil {
			return err
		}
		time.Sleep(3 * time.Second)
		d.watching.Store(true)
		time.Sleep(time.Duration(r.seconds) * time.Second)
		d.watching.Store(false)
		d.wg.Wait()
		if err := d.failed.get(); err != nil {
			return err
		}
		fmt.Printf("without a proxy: %s\n", &d.delays)
	}
	if r.check && perStream > mostPerStream {
		return fmt.Errorf("a stream takes %.0f bytes; %d is the most", perStream, mostPerStream)
	}
	return nil
}

// save keeps a heap profile of the proxy, if one was asked for.
func (r *capacity) save(s *stand, name string) error {
	if r.profile == "" {
		return nil
	}
	for _, what := range []string{"heap?gc=1", "goroutine?debug=1"} {
		resp, err := http.Get("http://" + s.admin + "/debug/pprof/" + what)
		if err != nil {
			return err
		}
		b, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err == nil && resp.StatusCode != http.StatusOK {
			err = errors.New("profile: " + resp.Status)
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(r.profile, name+"."+what[:4]), b, 0o600)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
