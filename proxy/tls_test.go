package proxy

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/dragoman-proxy/dragoman/internal/config"
)

// authority signs certificates for a test.
type authority struct {
	t    testing.TB
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

var testDay = 24 * time.Hour

func newAuthority(t testing.TB) *authority {
	t.Helper()
	a := &authority{t: t, key: newKey(t)}
	tmpl := &x509.Certificate{
		SerialNumber: serial(t), Subject: pkix.Name{CommonName: "test authority " + rand.Text()},
		NotBefore: time.Now().Add(-testDay), NotAfter: time.Now().Add(30 * testDay),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &a.key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.pem = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return a
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func serial(t testing.TB) *big.Int {
	t.Helper()
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 100))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// issue makes a certificate for a server and a client, with its key, in PEM.
func (a *authority) issue(name string, notAfter time.Time) (cert, key []byte) {
	a.t.Helper()
	k := newKey(a.t)
	tmpl := &x509.Certificate{
		SerialNumber: serial(a.t), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: notAfter.Add(-60 * testDay), NotAfter: notAfter,
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, &k.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		a.t.Fatal(err)
	}
	return append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), a.pem...),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw})
}

const testHost = "dragoman.test"

// files writes a certificate of testHost and its key. Its chain ends in the authority.
func (a *authority) files(t testing.TB) config.ServerTLS {
	t.Helper()
	dir := t.TempDir()
	conf := config.ServerTLS{CertFile: filepath.Join(dir, "cert.pem"), KeyFile: filepath.Join(dir, "key.pem")}
	cert, key := a.issue(testHost, time.Now().Add(10*testDay))
	write(t, conf.CertFile, cert)
	write(t, conf.KeyFile, key)
	return conf
}

func write(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// clientTLS trusts whoever signed the certificate in the files.
func clientTLS(t testing.TB, conf config.ServerTLS) *tls.Config {
	t.Helper()
	data, err := os.ReadFile(conf.CertFile)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(data)
	return &tls.Config{RootCAs: pool, ServerName: testHost}
}

// TestTLSVersionsAndProtocols: nothing older than TLS 1.2, and nothing but HTTP/1.1.
func TestTLSVersionsAndProtocols(t *testing.T) {
	t.Parallel()
	r := startOver(t, "tls", demoYAML)
	for _, c := range []struct {
		name     string
		min, max uint16
		protos   []string
		err      string
	}{
		{"TLS 1.0", tls.VersionTLS10, tls.VersionTLS10, nil, "protocol version not supported"},
		{"TLS 1.1", tls.VersionTLS10, tls.VersionTLS11, nil, "protocol version not supported"},
		{"TLS 1.2", tls.VersionTLS12, tls.VersionTLS12, nil, ""},
		{"TLS 1.3", tls.VersionTLS13, tls.VersionTLS13, nil, ""},
		{"HTTP/1.1 by name", 0, 0, []string{"h2", "http/1.1"}, ""},
		{"HTTP/2 alone", 0, 0, []string{"h2"}, "no application protocol"},
		{"HTTP/2 alone, TLS 1.2", tls.VersionTLS12, tls.VersionTLS12, []string{"h2"}, "no application protocol"},
	} {
		conf := r.tls.Clone()
		conf.MinVersion, conf.MaxVersion, conf.NextProtos = c.min, c.max, c.protos
		o := *r
		o.tls = conf
		cl := o.dial()
		err := cl.Conn.(*tls.Conn).Handshake()
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: %v, want %q", c.name, err, c.err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		state := cl.Conn.(*tls.Conn).ConnectionState()
		if c.protos != nil && state.NegotiatedProtocol != "http/1.1" || c.max != 0 && state.Version != c.max {
			t.Errorf("%s: %q, %x", c.name, state.NegotiatedProtocol, state.Version)
		}
		cl.send("GET", "/livez", "", "")
		if got := cl.reply(); got.status != 200 {
			t.Errorf("%s: %d", c.name, got.status)
		}
	}
}

const demoYAML = "agents:\n  - {name: it, protocol: chat, url: \"demo:chat\"}\n"

// TestPlainHTTPOnATLSPort tells a client which port it has met, and says nothing to
// anything else that is not TLS.
func TestPlainHTTPOnATLSPort(t *testing.T) {
	t.Parallel()
	r := startOver(t, "tls", demoYAML)
	r.tls = nil
	for _, req := range []string{"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 50000\r\n\r\n" + strings.Repeat("x", 50000)} {
		c := r.dial()
		if _, err := io.WriteString(c, req); err != nil {
			t.Fatal(err)
		}
		if got := c.reply(); got.status != 400 || !strings.Contains(got.body, "This port speaks HTTPS") {
			t.Errorf("%d %v %q", got.status, got.header, got.body)
		}
		c.ended()
	}
	c := r.dial()
	_, _ = io.WriteString(c, "SSH-2.0-OpenSSH_9.9\r\n")
	if b, _ := io.ReadAll(c); bytes.Contains(b, []byte("HTTP")) {
		t.Errorf("a stranger was told %q", b)
	}
}

// TestClientCertificates lets in only those whom the authority has signed.
func TestClientCertificates(t *testing.T) {
	t.Parallel()
	ours, others := newAuthority(t), newAuthority(t)
	r := startTLSWith(t, ours.pem)
	for _, c := range []struct {
		name string
		cert []tls.Certificate
		ok   bool
	}{
		{"none", nil, false},
		{"of another authority", []tls.Certificate{others.pair("mallory", testDay)}, false},
		{"expired", []tls.Certificate{ours.pair("old", -time.Hour)}, false},
		{"good", []tls.Certificate{ours.pair("alice", testDay)}, true},
	} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			o := *r
			o.tls = r.tls.Clone()
			o.tls.MinVersion, o.tls.MaxVersion = version, version
			o.tls.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
				if c.cert == nil {
					return &tls.Certificate{}, nil
				}
				return &c.cert[0], nil // even if it was not asked for
			}
			if _, err := o.greet(); (err == nil) != c.ok {
				t.Errorf("%s, %x: %v", c.name, version, err)
			}
		}
	}
}

// greet sends a request over TLS on a connection of its own and says what the
// connection was like.
func (r *running) greet() (tls.ConnectionState, error) {
	r.t.Helper()
	c := r.dial()
	defer c.Close()
	tc := c.Conn.(*tls.Conn)
	if err := tc.Handshake(); err != nil {
		return tls.ConnectionState{}, err
	}
	// A TLS 1.3 client learns only now that it was refused; and tickets come with this.
	if _, err := io.WriteString(c, "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		return tls.ConnectionState{}, err
	}
	resp, err := http.ReadResponse(c.r, nil)
	if err == nil && resp.StatusCode != 200 {
		err = errors.New(resp.Status)
	}
	return tc.ConnectionState(), err
}

func (a *authority) pair(name string, valid time.Duration) tls.Certificate {
	a.t.Helper()
	cert, key := a.issue(name, time.Now().Add(valid))
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		a.t.Fatal(err)
	}
	return pair
}

// startTLSWith starts a proxy that asks clients for certificates and looks at its
// files all the time.
func startTLSWith(t *testing.T, authorities []byte) *running {
	t.Helper()
	conf := newAuthority(t).files(t)
	if authorities != nil {
		conf.ClientCAFile = filepath.Join(filepath.Dir(conf.CertFile), "ca.pem")
		write(t, conf.ClientCAFile, authorities)
	}
	r := startOver(t, "tcp", demoYAML, func(s *Server) {
		s.snapshot().conf.Server.TLS = conf
		certs, err := loadCertificates(conf, s.log)
		if err != nil {
			t.Fatal(err)
		}
		certs.every = time.Millisecond
		s.certs = certs
	})
	r.tls = clientTLS(t, conf)
	return r
}

// TestRevokedAuthorityCannotBeResumed takes the authority out while a client holds a
// ticket that it got under it.
func TestRevokedAuthorityCannotBeResumed(t *testing.T) {
	t.Parallel()
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		ours, others := newAuthority(t), newAuthority(t)
		r := startTLSWith(t, ours.pem)
		r.tls.MinVersion, r.tls.MaxVersion = version, version
		r.tls.ClientSessionCache = tls.NewLRUClientSessionCache(10)
		alice := ours.pair("alice", testDay)
		r.tls.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &alice, nil }
		if _, err := r.greet(); err != nil {
			t.Fatal(err)
		}
		if s, err := r.greet(); err != nil || !s.DidResume {
			t.Fatalf("%x: a session is not resumed at all: %v", version, err)
		}
		before := r.certs.current.Load()
		write(t, r.certs.conf.ClientCAFile, others.pem)
		waitFor(t, "the new authority", func() bool { return r.certs.current.Load() != before })
		if s, err := r.greet(); err == nil {
			t.Errorf("%x: a revoked client was let in, resumed: %t", version, s.DidResume)
		}
	}
}

// TestCertificateIsReadAgain changes the certificate as a mounted Secret does, by a
// symlink two directories up, with clients connected.
func TestCertificateIsReadAgain(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	dir := t.TempDir()
	put := func(version string, notAfter time.Time) {
		t.Helper()
		if err := os.Mkdir(filepath.Join(dir, version), 0o700); err != nil {
			t.Fatal(err)
		}
		cert, key := a.issue(testHost, notAfter)
		write(t, filepath.Join(dir, version, "cert.pem"), cert)
		write(t, filepath.Join(dir, version, "key.pem"), key)
		tmp := filepath.Join(dir, "..data_tmp")
		if err := os.Symlink(version, tmp); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(tmp, filepath.Join(dir, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	first, second := time.Now().Add(2*testDay).Truncate(time.Second), time.Now().Add(9*testDay).Truncate(time.Second)
	put("..1", first)
	conf := config.ServerTLS{CertFile: filepath.Join(dir, "cert.pem"), KeyFile: filepath.Join(dir, "key.pem")}
	for _, name := range []string{"cert.pem", "key.pem"} {
		if err := os.Symlink(filepath.Join("..data", name), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	r := startOver(t, "tcp", demoYAML, func(s *Server) {
		certs, err := loadCertificates(conf, s.log)
		if err != nil {
			t.Fatal(err)
		}
		certs.every = time.Millisecond
		s.certs = certs
		s.meters.set.NewGauge("dragoman_tls_certificate_expiry_seconds", certs.expiry)
	})
	r.tls = clientTLS(t, conf)
	shows := func(want time.Time) {
		t.Helper()
		s, err := r.greet()
		if err != nil {
			t.Fatal(err)
		}
		if got := s.PeerCertificates[0].NotAfter; !got.Equal(want) {
			t.Errorf("the certificate ends at %v, want %v", got, want)
		}
		var b strings.Builder
		r.meters.write(&b)
		if line := fmt.Sprintf("\ndragoman_tls_certificate_expiry_seconds %d\n", want.Unix()); !strings.Contains(b.String(), line) {
			t.Errorf("%q is not among the metrics", line)
		}
	}
	shows(first)
	old := r.dial()
	old.send("GET", "/livez", "", "")
	old.reply()
	before := r.certs.current.Load()
	put("..2", second)
	waitFor(t, "the new certificate", func() bool { return r.certs.current.Load() != before })
	shows(second)
	old.send("GET", "/livez", "", "") // goes on
	if got := old.reply(); got.status != 200 {
		t.Errorf("a connection from before: %d", got.status)
	}
}

// TestBadCertificateFiles are reported once each, and the good ones stay in use.
func TestBadCertificateFiles(t *testing.T) {
	t.Parallel()
	a, b := newAuthority(t), newAuthority(t)
	good, goodKey := a.issue(testHost, time.Now().Add(testDay))
	_, otherKey := a.issue(testHost, time.Now().Add(testDay))
	old, oldKey := a.issue(testHost, time.Now().Add(-time.Hour))
	both := append(append([]byte{}, a.pem...), b.pem...)
	for _, c := range []struct {
		name           string
		cert, key, ca  []byte
		want           string
		alsoAtTheStart bool
	}{
		{"half a certificate", good[:len(good)/4], goodKey, both, "is the file complete?", true},
		{"half a chain", good[:len(good)-40], goodKey, both, "is the file complete?", true},
		{"another key", good, otherKey, both, "are not a certificate and its private key", true},
		{"half a key", good, goodKey[:len(goodKey)/2], both, "are not a certificate and its private key", true},
		{"empty", nil, goodKey, both, "no certificate in PEM", true},
		{"key for certificate", goodKey, goodKey, both, "no certificate in PEM", true},
		{"broken", bytes.Replace(good, []byte("MII"), []byte("AAA"), 1), goodKey, both, "is the file complete?", true},
		{"expired", old, oldKey, both, "expired at", false},
		{"half an authority", good, goodKey, both[:len(both)-40], "is the file complete?", true},
		{"no authority", good, goodKey, nil, "no certificate in PEM", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			core, logs := observer.New(zap.DebugLevel)
			conf := a.files(t)
			conf.ClientCAFile = filepath.Join(filepath.Dir(conf.CertFile), "ca.pem")
			write(t, conf.ClientCAFile, both)
			certs, err := loadCertificates(conf, zap.New(core))
			if err != nil {
				t.Fatal(err)
			}
			first := certs.current.Load()
			certs.poll()
			if certs.current.Load() != first || logs.Len() > 0 {
				t.Fatalf("nothing changed: %v", logs.All())
			}
			var before [2][]byte
			for i, path := range []string{conf.CertFile, conf.KeyFile} {
				if before[i], err = os.ReadFile(path); err != nil {
					t.Fatal(err)
				}
			}
			spoil := func() {
				write(t, conf.CertFile, c.cert)
				write(t, conf.KeyFile, c.key)
				write(t, conf.ClientCAFile, c.ca)
			}
			spoil()
			for range 3 {
				certs.poll()
			}
			told := logs.FilterLevelExact(zap.ErrorLevel).All()
			if certs.current.Load() != first || len(told) != 1 || logs.Len() != 1 {
				t.Fatalf("%d lines: %v", logs.Len(), told)
			}
			if text := fmt.Sprint(told[0].ContextMap()); !strings.Contains(text, c.want) || strings.Contains(text, "BEGIN") || strings.Contains(text, "MII") {
				t.Errorf("logged %s", text)
			}
			if _, err := loadCertificates(conf, zap.NewNop()); (err != nil) != c.alsoAtTheStart {
				t.Errorf("at the start: %v", err)
			}
			write(t, conf.CertFile, before[0]) // taken back, and done again: news
			write(t, conf.KeyFile, before[1])
			write(t, conf.ClientCAFile, both)
			certs.poll()
			spoil()
			certs.poll()
			if n := logs.FilterLevelExact(zap.ErrorLevel).Len(); n != 2 || certs.current.Load() != first {
				t.Errorf("done again: %d lines", n)
			}
			_ = os.Remove(conf.KeyFile)
			certs.poll()
			certs.poll()
			if n := logs.FilterLevelExact(zap.ErrorLevel).Len(); n != 3 || certs.current.Load() != first {
				t.Errorf("a missing file: %d lines", n)
			}
			write(t, conf.CertFile, good)
			write(t, conf.KeyFile, goodKey)
			write(t, conf.ClientCAFile, both)
			certs.poll()
			certs.poll()
			if now := certs.current.Load(); now == first || logs.FilterLevelExact(zap.InfoLevel).Len() != 1 {
				t.Errorf("good files again: %v", logs.All())
			}
			spoil() // again the same, but news
			certs.poll()
			if n := logs.FilterLevelExact(zap.ErrorLevel).Len(); n != 4 {
				t.Errorf("%d errors", n)
			}
		})
	}
}

// TestFailedHandshakesAreQuiet: anybody can make them fail.
func TestFailedHandshakesAreQuiet(t *testing.T) {
	t.Parallel()
	core, logs := observer.New(zap.DebugLevel)
	r := startOver(t, "tls", demoYAML, func(s *Server) { s.log = zap.New(core) })
	r.tls = nil
	c := r.dial()
	_, _ = io.WriteString(c, "\x16\x03\x01\x00\x05nonsense")
	_, _ = io.ReadAll(c)
	waitFor(t, "a line", func() bool { return logs.FilterMessage("TLS handshake failed").Len() == 1 })
	for _, l := range logs.All() {
		if l.Level > zap.DebugLevel {
			t.Errorf("logged %v", l)
		}
	}
}

// TestHandshakeHasADeadline: neither silence nor a byte now and then keeps a
// connection that does not get on with its handshake.
func TestHandshakeHasADeadline(t *testing.T) {
	t.Parallel()
	hello := clientHello(t)
	for _, start := range []int{0, 1, len(hello) / 2} {
		r := startOver(t, "tls", withServer("timeouts: {header: 200ms}", demoYAML))
		r.tls = nil
		c := r.dial()
		if _, err := c.Write(hello[:start]); err != nil {
			t.Fatal(err)
		}
		gone := make(chan error, 1)
		go func() {
			_, err := io.ReadAll(c)
			gone <- err
		}()
		waitFor(t, "the end", func() bool { // a byte now and then of a hello that never ends
			if start > 0 {
				_, _ = c.Write(hello[1:2])
			}
			select {
			case err := <-gone:
				if errors.Is(err, os.ErrDeadlineExceeded) {
					t.Error("the connection goes on")
				}
				return true
			default:
				return false
			}
		})
	}
}

// clientHello is what a client says first, with a length that is never reached.
func clientHello(t *testing.T) []byte {
	t.Helper()
	a, b := net.Pipe()
	go func() {
		_ = tls.Client(a, &tls.Config{ServerName: testHost}).Handshake()
	}()
	head := make([]byte, 5)
	if _, err := io.ReadFull(b, head); err != nil {
		t.Fatal(err)
	}
	rest := make([]byte, binary.BigEndian.Uint16(head[3:]))
	if _, err := io.ReadFull(b, rest); err != nil {
		t.Fatal(err)
	}
	_ = a.Close()
	_ = b.Close()
	binary.BigEndian.PutUint16(head[3:], 1<<14)
	return append(head, rest...)
}

// TestHandshakesDoNotBlockEachOther has clients connected that never begin theirs;
// each has a place all the same.
func TestHandshakesDoNotBlockEachOther(t *testing.T) {
	t.Parallel()
	r := startOver(t, "tls", withServer("timeouts: {header: 1h}, max_connections: 100", demoYAML))
	bare := *r
	bare.tls = nil
	for range 50 {
		bare.dial()
	}
	waitFor(t, "fifty places", func() bool { return len(r.listener().slots) == 50 })
	if got := r.get("/livez"); got.status != 200 {
		t.Errorf("%d", got.status)
	}
}

// TestCloseNotifyIsNoDeparture: a client may say that it will send no more, and
// listen on. It leaves with the FIN.
func TestCloseNotifyIsNoDeparture(t *testing.T) {
	t.Parallel()
	gate, left := make(chan struct{}), make(chan struct{})
	back := stage(t, func(v *visit) {
		v.open()
		v.chunk(chatScript().first)
		<-gate
		v.chunk(strings.ReplaceAll(chatScript().first, "one", "two"))
		v.gone()
		close(left)
	})
	r := startOver(t, "tls", agentYAML("chat", back.addr))
	c := r.dial()
	c.send("POST", "/v1/chat/completions", chatHelloStream, "")
	body := c.response().Body
	until(t, body, "one")
	if err := c.Conn.(*tls.Conn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	close(gate)
	until(t, body, "two")
	c.halfClose()
	await(t, left, "the departure")
	if line := r.waitLog(1); line["outcome"] != "client_gone" {
		t.Errorf("logged %v", line)
	}
}

// TestCloseSaysGoodbye: under TLS a connection that ends in order is told from one
// that was cut.
func TestCloseSaysGoodbye(t *testing.T) {
	t.Parallel()
	r := startOver(t, "tls", demoYAML)
	for _, headers := range []string{"Connection: close\r\n", ""} {
		c := r.dial()
		c.send("GET", "/livez", "", headers)
		c.reply()
		if headers == "" {
			if err := r.Shutdown(context.Background()); err != nil {
				t.Error(err)
			}
		}
		if _, err := c.Read(make([]byte, 1)); err != io.EOF { // and not ErrUnexpectedEOF
			t.Errorf("%q: %v", headers, err)
		}
	}
}

// TestCloseDoesNotWaitForTheClient closes connections whose clients take nothing: the
// last word of TLS must not hold up a shutdown, five seconds for each.
func TestCloseDoesNotWaitForTheClient(t *testing.T) {
	t.Parallel()
	needsLinux(t)
	certs, err := loadCertificates(newAuthority(t).files(t), zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	quick(t, 3*time.Second, func() time.Duration {
		server, client := connPair(t, "tcp")
		conf := clientTLS(t, certs.conf)
		go func() { _ = tls.Client(client, conf).Handshake() }()
		tc := certs.server(server)
		if err := tc.Handshake(); err != nil {
			t.Fatal(err)
		}
		for full := 0; full < 3; full++ { // what lies between them, below TLS
			_ = server.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
			if n, _ := server.Write(make([]byte, 64<<10)); n > 0 {
				full = -1
			}
		}
		closed := make(chan struct{})
		began := time.Now()
		go func() { _ = endTLS(tc); close(closed) }()
		await(t, closed, "the end")
		return time.Since(began)
	})
}

// TestOverTLSIsKnown to who asks what a client came by.
func TestOverTLSIsKnown(t *testing.T) {
	t.Parallel()
	certs, err := loadCertificates(newAuthority(t).files(t), zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	raw, _ := connPair(t, "tcp")
	c := &clientConn{Conn: raw, raw: raw}
	if overTLS(c) || overTLS(&earlyConn{Conn: c}) || overTLS(raw) {
		t.Error("plain")
	}
	c.tls = certs.server(raw)
	c.Conn = c.tls
	if !overTLS(c) || !overTLS(&earlyConn{Conn: c}) || descriptorOf(&earlyConn{Conn: c}) == nil || ticketOf(&earlyConn{Conn: c}) != &c.ticket {
		t.Error("TLS")
	}
}

// TestHandshakeWritesHaveADeadline: a client that takes nothing of the handshake does
// not keep it.
func TestHandshakeWritesHaveADeadline(t *testing.T) {
	t.Parallel()
	certs, err := loadCertificates(newAuthority(t).files(t), zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	client, raw := net.Pipe() // holds nothing
	defer client.Close()
	l := newListener(nil, 1, time.Second, zap.NewNop())
	l.headTimeout = 100 * time.Millisecond
	l.slots <- struct{}{}
	c := &clientConn{raw: raw, l: l, tls: certs.server(raw)}
	c.Conn = c.tls
	defer c.Close()
	hello := clientHello(t)
	binary.BigEndian.PutUint16(hello[3:], uint16(len(hello)-5)) // #nosec G115 -- a few hundred
	go func() { _, _ = client.Write(hello) }()
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%v", err)
	}
}

// TestTLSShows in the metrics, and in what agents are told about the way a client came.
func TestTLSShows(t *testing.T) {
	t.Parallel()
	overEveryWire(t, func(t *testing.T, start starter) {
		back := stage(t, answerWhole)
		r := start(t, withServer("trusted_proxies: [127.0.0.1]", agentYAML("chat", back.addr)))
		if got := r.post("/v1/chat/completions", chatHello, ""); got.status != 200 {
			t.Fatalf("%d %s", got.status, got.body)
		}
		want := map[string]string{"tcp": "http", "tls": "https"}[t.Name()[strings.LastIndexByte(t.Name(), '/')+1:]]
		if got := (<-back.seen).req.Header.Get("X-Forwarded-Proto"); want != "" && got != want {
			t.Errorf("X-Forwarded-Proto %q, want %q", got, want)
		}
		var b strings.Builder
		r.meters.write(&b)
		if got := strings.Contains(b.String(), "\ndragoman_tls_certificate_expiry_seconds "); got != (want == "https") {
			t.Errorf("the certificate is among the metrics: %t", got)
		}
	})
}

// FuzzFirstBytes sends anything at all to a listener, as it is and under TLS: the proxy
// answers or hangs up, and serves the next one.
func FuzzFirstBytes(f *testing.F) {
	f.Add([]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), false)
	f.Add([]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), true)
	f.Add([]byte("\x16\x03\x01\x00\x05\x01\x00\x00\x01\x03"), false)
	f.Add([]byte("\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10"), false)
	f.Add([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), false)
	f.Add([]byte("POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nz\r\n"), true)
	files := newAuthority(f).files(f)
	conf := config.Default()
	conf.Server.TLS = files
	conf.Log.Access = false
	conf.Auth.Mode = "none"
	core, logs := observer.New(zap.ErrorLevel)
	s, err := New(&conf, zap.New(core), nil)
	if err != nil {
		f.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		f.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(ln) }()
	f.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = s.Shutdown(ctx)
		<-done
	})
	client := clientTLS(f, files)
	f.Fuzz(func(t *testing.T, data []byte, wrapped bool) {
		for _, ours := range []bool{false, true} {
			c, err := net.Dial("tcp", ln.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			raw := c.(*net.TCPConn)
			_ = c.SetDeadline(time.Now().Add(longest))
			if ours || wrapped {
				c = tls.Client(c, client)
			}
			if ours {
				data = []byte("GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
			}
			_, err = c.Write(data)
			if !ours {
				_ = raw.CloseWrite()
			}
			answer, rerr := io.ReadAll(c)
			if errors.Is(rerr, os.ErrDeadlineExceeded) {
				t.Errorf("%q: the connection hangs", data)
			}
			if ours && !bytes.HasPrefix(answer, []byte("HTTP/1.1 200")) {
				t.Errorf("afterwards: %v, %v, %q", err, rerr, answer)
			}
			_ = c.Close()
		}
		for _, l := range logs.FilterMessage("panic").All() {
			t.Errorf("panic: %v", l.ContextMap())
		}
	})
}
