package auth

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
)

// fetchFrom asks a server for keys, once.
func fetchFrom(t *testing.T, address string, roots *x509.CertPool) ([]byte, error) {
	t.Helper()
	load, err := urlSource(address, roots)
	if err != nil {
		t.Fatal(err)
	}
	return load(t.Context())
}

// TestKeysComeOverTLS, from a server that an authority vouches for, and in plain text from this host alone.
func TestKeysComeOverTLS(t *testing.T) {
	t.Parallel()
	want := jwks(jwk("e", ecOne()))
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.RequestURI() != "/keys?tenant=1" || r.Method != http.MethodGet || r.Header.Get("Accept-Encoding") != "" {
			t.Errorf("asked for %s %s with %v", r.Method, r.URL, r.Header)
		}
		_, _ = w.Write(want)
	})
	secure, plain := httptest.NewUnstartedServer(handler), httptest.NewServer(handler)
	secure.Config.ErrorLog = log.New(io.Discard, "", 0) // it is told of the handshake that fails
	secure.StartTLS()
	defer secure.Close()
	defer plain.Close()
	roots := x509.NewCertPool()
	roots.AddCert(secure.Certificate())

	for _, f := range []struct {
		address string
		roots   *x509.CertPool
	}{{secure.URL, roots}, {plain.URL, nil}, {strings.Replace(plain.URL, "127.0.0.1", "localhost", 1), nil}} {
		if got, err := fetchFrom(t, f.address+"/keys?tenant=1", f.roots); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %s, %v", f.address, got, err)
		}
	}
	old := httptest.NewUnstartedServer(handler)
	old.TLS = &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11} // #nosec G402 -- what must not work
	old.Config.ErrorLog = secure.Config.ErrorLog
	old.StartTLS()
	defer old.Close()
	if _, err := fetchFrom(t, old.URL+"/keys?tenant=1", roots); err == nil || !strings.Contains(err.Error(), "protocol version") {
		t.Errorf("TLS 1.1: %v", err)
	}
	_, err := fetchFrom(t, secure.URL+"/keys?tenant=1", nil)
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); !ok {
		t.Errorf("a server that nobody vouches for: %v", err)
	}
}

// TestWhatAServerOfKeysMustNotDo: redirect, answer too much, or anything but 200; and no error shows the url, whose query
// may be a secret.
func TestWhatAServerOfKeysMustNotDo(t *testing.T) {
	t.Parallel()
	var followed atomic.Bool
	mux := http.NewServeMux()
	mux.HandleFunc("/good", func(w http.ResponseWriter, _ *http.Request) {
		followed.Store(true)
		_, _ = w.Write(jwks(jwk("e", ecOne())))
	})
	mux.HandleFunc("/redirect", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/good", http.StatusFound) })
	mux.HandleFunc("/down", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "canary", http.StatusServiceUnavailable) })
	mux.HandleFunc("/empty", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	mux.HandleFunc("/large", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, maxKeySet+1)) })
	mux.HandleFunc("/full", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, maxKeySet)) })
	mux.HandleFunc("/endless", func(w http.ResponseWriter, _ *http.Request) {
		for {
			if _, err := w.Write(make([]byte, 64<<10)); err != nil {
				return
			}
		}
	})
	mux.HandleFunc("/header", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Large", strings.Repeat("a", 64<<10))
		_, _ = w.Write(jwks(jwk("e", ecOne())))
	})
	mux.HandleFunc("/cut", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "1000")
		_, _ = w.Write([]byte("{"))
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})
	server := httptest.NewServer(mux)
	defer server.Close()
	for path, want := range map[string]string{
		"/redirect": "status 302", "/down": "status 503", "/empty": "status 204", "/large": "larger than 1 MiB", "/endless": "larger than 1 MiB",
		"/header": "unexpected EOF", "/cut": "unexpected EOF", "/missing": "status 404",
	} {
		_, err := fetchFrom(t, server.URL+path+"?key=canary", nil)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: %v, want %s", path, err, want)
		}
	}
	if followed.Load() {
		t.Error("a redirect was followed")
	}
	if data, err := fetchFrom(t, server.URL+"/full", nil); err != nil || len(data) != maxKeySet {
		t.Errorf("1 MiB: %d, %v", len(data), err)
	}
	server.Close()
	if _, err := fetchFrom(t, server.URL+"/good?key=canary", nil); err == nil || strings.Contains(err.Error(), "canary") {
		t.Errorf("a server that is gone: %v", err)
	}
}

// leaving is a connection that tells when it is closed.
type leaving struct {
	net.Conn
	closed *atomic.Bool
}

func (c leaving) Close() error {
	c.closed.Store(true)
	return c.Conn.Close()
}

// TestAFetchUsesOneConnection: to the port that the url says or implies, and closed behind it, whatever came.
func TestAFetchUsesOneConnection(t *testing.T) {
	t.Parallel()
	var status atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Host != "issuer.test" && r.Host != "issuer.test:81" && r.Host != "[2001:db8::1]" || !r.Close {
			t.Errorf("host %s, close %v", r.Host, r.Close)
		}
		w.WriteHeader(int(status.Load()))
	}))
	defer server.Close()
	for address, want := range map[string]string{
		"http://issuer.test/": "issuer.test:80", "https://issuer.test": "issuer.test:443", "http://issuer.test:81": "issuer.test:81", "https://[2001:db8::1]/": "[2001:db8::1]:443",
	} {
		for _, code := range []int32{200, 404} {
			status.Store(code)
			var closed atomic.Bool
			var dialled []string
			s := keyServer{url: must(url.Parse(address)), dial: func(ctx context.Context, network, address string) (net.Conn, error) {
				dialled = append(dialled, address)
				c, err := new(net.Dialer).DialContext(ctx, network, server.Listener.Addr().String())
				return leaving{c, &closed}, err
			}}
			if _, err := s.fetch(t.Context()); (err == nil) != (code == 200) {
				t.Errorf("status %d: %v", code, err)
			}
			if len(dialled) != 1 || dialled[0] != want || !closed.Load() {
				t.Errorf("%s: dialled %q, closed %v", address, dialled, closed.Load())
			}
		}
	}
}

// TestASlowServerOfKeysIsGivenUp when its time is over.
func TestASlowServerOfKeysIsGivenUp(t *testing.T) {
	t.Parallel()
	asked := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(asked)
		<-r.Context().Done()
	}))
	defer server.Close()
	load, err := urlSource(server.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-asked
		cancel()
	}()
	if _, err := load(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestNoProxyOfTheEnvironment: whoever sets one could put keys of their own in.
func TestNoProxyOfTheEnvironment(t *testing.T) {
	var asked atomic.Int32
	proxy := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	defer proxy.Close()
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY"} {
		t.Setenv(name, proxy.URL)
	}
	// Go uses no proxy for loopback, which would not show the fault. This address is refused before anything leaves.
	if _, err := fetchFrom(t, "https://169.254.169.254/jwks", nil); err == nil {
		t.Error("keys came from nowhere")
	}
	if n := asked.Load(); n > 0 {
		t.Errorf("the proxy was asked %d times", n)
	}
}

// TestAddresses: a name may lead where no issuer is.
func TestAddresses(t *testing.T) {
	t.Parallel()
	f := func(address string, secure, want bool) {
		t.Helper()
		if got := checkAddress(address, secure) == nil; got != want {
			t.Errorf("%s, secure %v: %v", address, secure, got)
		}
	}
	for _, address := range []string{"127.0.0.1:80", "127.8.8.8:80", "[::1]:80", "[::ffff:127.0.0.1]:80"} {
		f(address, true, true)
		f(address, false, true)
	}
	for _, address := range []string{"192.0.2.1:443", "10.0.0.1:443", "[2001:db8::1]:443"} {
		f(address, true, true)
		f(address, false, false)
	}
	for _, address := range []string{"169.254.169.254:80", "[fe80::1%eth0]:443", "[::ffff:169.254.169.254]:443", "0.0.0.0:80", "[::]:80", "224.0.0.1:80", "", "issuer.test:443", "/socket"} {
		f(address, true, false)
		f(address, false, false)
	}
	// And the dialer asks.
	if _, err := fetchFrom(t, "https://169.254.169.254/jwks", nil); err == nil || !strings.Contains(err.Error(), "link-local") {
		t.Error(err)
	}
}

// TestAVerifierFetchesForReal: all of it together, against a server on loopback, and nothing is left behind.
func TestAVerifierFetchesForReal(t *testing.T) {
	t.Parallel()
	set := atomic.Pointer[[]byte]{}
	one := jwks(jwk("one", ecOne()))
	set.Store(&one)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(*set.Load()) }))
	defer server.Close()
	c := everyAlgorithm(nil)
	c.JWKSURL = server.URL + "/jwks"
	v := newTokens(t, c)
	a := newTest(t, Config{Tokens: v})
	if got := outcome(a.Authenticate(present(sign(ecOne(), object{"kid": "one"}, good())), now)); got != me {
		t.Error(got)
	}
	if err := v.Ready(); err != nil {
		t.Error(err)
	}
	two := jwks(jwk("two", ecTwo()))
	set.Store(&two)
	v.keys.mu.Lock()
	v.keys.last = v.keys.last.Add(-v.keys.pace.gap) // as if the last attempt was some time ago
	v.keys.mu.Unlock()
	if got := outcome(a.Authenticate(present(sign(ecTwo(), object{"kid": "two"}, good())), now)); got != me {
		t.Error(got)
	}
	if got := outcome(a.Authenticate(present(sign(ecOne(), object{"kid": "one"}, good())), now)); got != tokenKey {
		t.Error(got)
	}
	if s := fmt.Sprint(v.Ready()); s != "<nil>" {
		t.Error(s)
	}
}
