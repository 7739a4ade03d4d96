package config

import (
	"io/fs"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// Server is the listener that clients talk to.
type Server struct {
	// Listen is where clients connect: address:port, [address]:port, :port for every address, or unix:/path of a socket.
	// Default: 127.0.0.1:8080. Port 0 lets the system choose one. Beyond this host it needs auth.mode keys; see [Auth].
	Listen string

	// SocketMode is the file mode of a unix socket, in octal. Default: 0660. Open it up (0666) when the clients run
	// under neither the user nor the group of Dragoman.
	SocketMode fs.FileMode

	// TLS serves https. Default: none. See [ServerTLS].
	TLS ServerTLS

	// TrustedProxies are the addresses of proxies in front whose X-Forwarded-* headers are believed and passed on; those
	// of anybody else are dropped. In the file they are addresses and networks such as [10.0.0.5, 10.1.0.0/16]. Default:
	// none.
	TrustedProxies []netip.Prefix

	// MaxBody is the largest request body; a larger one is a 413. Default: 20MiB, because photos come as base64. It
	// may be up to 1GiB, and there is no other cap above it. A body is held in memory: lower it where memory is short.
	MaxBody Size

	// MaxHeader is the largest request head, request line included; a larger one is a 431. Default: 32KiB. It
	// may be from 4KiB to 16MiB. Raise it for clients with very long tokens.
	MaxHeader Size

	// MaxConnections is how many client connections are open at the same time. Default: 10000. Each may hold a stream
	// open; the process needs about twice as many file descriptors.
	MaxConnections int

	// Timeouts bound each phase of a client's connection. See [ServerTimeouts].
	Timeouts ServerTimeouts
}

// ServerTLS is the certificate of the clients' listener. Files are read and checked when the configuration is loaded, and
// read again when they change; their paths are absolute. TLS 1.2 is the oldest version that is spoken.
type ServerTLS struct {
	// CertFile holds the certificate, in PEM, with those of the authorities between it and a root. Default: empty, which
	// means that there is no TLS. Set both it and KeyFile where nothing in front does TLS and clients come over a network.
	CertFile string

	// KeyFile holds the private key of CertFile.
	KeyFile string

	// ClientCAFile holds certificates, in PEM, of authorities. Default: empty. With it a client must show a certificate of
	// one of them to connect at all; it authenticates nobody by itself, so keys are still needed.
	ClientCAFile string
}

// ServerTimeouts bound each phase of a client's connection.
type ServerTimeouts struct {
	// Header is the time to receive a whole request head, from its first byte. Default: 5s. It is what stops
	// clients that send a byte now and then.
	Header time.Duration

	// Body is the time to receive a whole request body; then it is a 408. Default: 30s. Raise it for clients which
	// upload large files over slow lines.
	Body time.Duration

	// Idle is how long a connection may wait for its next request. Default: 180s. Keep it longer than the idle time of
	// a load balancer in front, or that will send a request into a connection which is being closed.
	Idle time.Duration

	// Write is how long a client may take no bytes of its answer before it counts as gone. Default: 30s. It bounds a
	// pause, not the whole answer.
	Write time.Duration

	// DrainDelay is how long the proxy goes on accepting after SIGTERM, not ready, and closing each connection behind its
	// answer: load balancers need that long to notice. Default: 5s; 0s for none. It is part of Drain, must be shorter where it is
	// written, and leaves the last two seconds of it, or its last quarter, to streams. SIGINT skips it.
	DrainDelay time.Duration

	// Drain is how long running requests may go on after the signal to stop; then they are cut, and told so. Default:
	// 25s, which fits into the 30s that Kubernetes grants.
	Drain time.Duration
}

// DefaultServer is the listener of an empty file.
func DefaultServer() Server {
	return Server{
		Listen:         "127.0.0.1:8080",
		SocketMode:     0o660,
		MaxBody:        20 * MiB,
		MaxHeader:      32 * KiB,
		MaxConnections: 10000,
		Timeouts: ServerTimeouts{
			Header: 5 * time.Second,
			Body:   30 * time.Second,
			Idle:   180 * time.Second,
			Write:  30 * time.Second,
			Drain:  25 * time.Second,

			DrainDelay: 5 * time.Second,
		},
	}
}

// Network is Listen in the words of [net.Listen]: "tcp" and an address, or "unix" and a path.
func (s Server) Network() (network, address string) {
	if path, ok := strings.CutPrefix(s.Listen, "unix:"); ok {
		return "unix", path
	}
	return "tcp", s.Listen
}

// Local reports whether only this host reaches the listener: a loopback address or a unix socket.
func (s Server) Local() bool {
	network, address := s.Network()
	if network == "unix" {
		return true
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}

// read reads the section and returns what is written.
func (s *Server) read(v value) map[string]value {
	var tlsWritten map[string]value
	written := v.mapping(fields{
		"listen":          s.readListen,
		"socket_mode":     s.readSocketMode,
		"max_body":        size(&s.MaxBody, KiB, GiB),
		"max_header":      size(&s.MaxHeader, 4*KiB, 16*MiB),
		"max_connections": integer(&s.MaxConnections, 1, 10_000_000),
		"timeouts":        s.Timeouts.read,
		"tls":             func(v value) { tlsWritten = s.TLS.read(v) },
		"trusted_proxies": s.readTrustedProxies,
	})
	if at, ok := written["tls"]; ok {
		s.TLS.check(at, tlsWritten)
	}
	return written
}

func (t *ServerTLS) read(v value) map[string]value {
	return v.mapping(fields{
		"cert_file":      filePath(&t.CertFile, "cert.pem"),
		"key_file":       filePath(&t.KeyFile, "key.pem"),
		"client_ca_file": filePath(&t.ClientCAFile, "ca.pem"),
	})
}

// check reads the files. What is wrong with them is told here and now, not with the first client.
func (t *ServerTLS) check(v value, written map[string]value) {
	place := func(key string) value {
		if w, ok := written[key]; ok {
			return w
		}
		return v
	}
	pair := readPair(place, t.CertFile, t.KeyFile)
	if pair != nil && pair.Leaf != nil && time.Now().After(pair.Leaf.NotAfter) {
		place("cert_file").warn("has expired: clients will refuse it until it is renewed")
	}
	if t.ClientCAFile == "" {
		return
	}
	if t.CertFile == "" {
		place("client_ca_file").problem("needs cert_file and key_file: clients show certificates over TLS only")
		return
	}
	readPool(place("client_ca_file"), t.ClientCAFile)
}

// readTrustedProxies reads addresses and networks.
func (s *Server) readTrustedProxies(v value) {
	const want = "an address or a network, such as 10.0.0.5 or 10.1.0.0/16"
	v.list("addresses and networks, such as [10.0.0.5, 10.1.0.0/16]", func(_ int, v value) {
		text, ok := v.text(want)
		if !ok {
			return
		}
		p, err := netip.ParsePrefix(text)
		if err != nil {
			var addr netip.Addr
			if addr, err = netip.ParseAddr(text); err == nil && addr.Zone() == "" {
				addr = addr.Unmap()
				p = netip.PrefixFrom(addr, addr.BitLen())
			}
		}
		switch {
		case !p.IsValid():
			v.problem("wants %s, not %s", want, v.shown())
			return
		case p.Addr().Is4In6():
			v.problem("is an IPv4 network in IPv6 form: write it as IPv4")
			return
		case p.Masked() != p:
			v.problem("has bits behind its length: write the network's first address, or /%d for one address alone", p.Addr().BitLen())
			return
		case p.Bits() == 0:
			v.warn("trusts everybody: whoever connects can write what address they come from")
		}
		s.TrustedProxies = append(s.TrustedProxies, p)
	})
}

func (t *ServerTimeouts) read(v value) {
	w := v.mapping(fields{
		"header":      span(&t.Header),
		"body":        span(&t.Body),
		"idle":        span(&t.Idle),
		"write":       span(&t.Write),
		"drain":       spanOrZero(&t.Drain),
		"drain_delay": spanOrZero(&t.DrainDelay),
	})
	if at, ok := w["drain_delay"]; ok && t.DrainDelay > 0 && t.DrainDelay >= t.Drain {
		at.problem("is part of drain, which is %v: make it shorter than that", t.Drain)
	}
}

func (s *Server) readListen(v value) {
	text, ok := v.scalar("an address such as 127.0.0.1:8080, or unix:/path")
	if !ok {
		return
	}
	listen, problem := parseListen(text)
	if problem != "" {
		v.problem("%s", problem)
		return
	}
	s.Listen = listen
}

func (s *Server) readSocketMode(v value) {
	const want = `a file mode in octal, such as "0660"`
	text, ok := v.scalar(want)
	if !ok {
		return
	}
	mode, err := strconv.ParseUint(text, 8, 32)
	if err != nil || mode > 0o777 || len(text) < 3 || len(text) > 4 {
		v.problem("wants %s, not %s", want, v.shown())
		return
	}
	s.SocketMode = fs.FileMode(mode)
}

// parseListen checks where to listen. Whether others may reach it is for checkAuth to say.
func parseListen(text string) (listen, problem string) {
	const want = "wants address:port such as 127.0.0.1:8080 or [::1]:8080, :8080 for every address, or unix:/path"
	if path, ok := strings.CutPrefix(text, "unix:"); ok {
		return text, checkSocket(path)
	}
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		return "", want
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return "", "wants a port from 0 to 65535, such as 127.0.0.1:8080"
	}
	if strings.EqualFold(host, "localhost") {
		host = "127.0.0.1" // what a name means is for others to say
	}
	if host == "" {
		return ":" + strconv.FormatUint(n, 10), ""
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return "", want
	}
	return netip.AddrPortFrom(addr, uint16(n)).String(), ""
}

// checkSocket checks the path of a unix socket.
func checkSocket(path string) string {
	switch {
	case !strings.HasPrefix(path, "/") || strings.HasPrefix(path, "//"):
		return "wants the absolute path of a socket, such as unix:/run/dragoman.sock"
	case len(path) > 103:
		// sun_path holds 108 bytes on Linux and 104 on the BSDs, the final zero included.
		return "has a socket path longer than the 103 bytes that every system takes"
	case strings.HasSuffix(path, "/"):
		return "has a directory where the socket should be"
	case strings.ContainsFunc(path, func(r rune) bool { return !unicode.IsPrint(r) }):
		return "has a socket path with a character that cannot be printed"
	}
	return ""
}
