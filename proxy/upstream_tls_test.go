package proxy

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// secured serves chat over TLS, and says of each connection whom the client asked for and who it said it is.
type secured struct {
	addr  string
	asked chan string // server name, a slash, and the name in the client's certificate
}

func serveSecured(t *testing.T, a *authority, name string, clients *authority) *secured {
	t.Helper()
	conf := &tls.Config{Certificates: []tls.Certificate{a.pair(name, testDay)}, MinVersion: tls.VersionTLS12}
	if clients != nil {
		conf.ClientCAs = x509.NewCertPool()
		conf.ClientCAs.AddCert(clients.cert)
		conf.ClientAuth = tls.RequireAndVerifyClientCert
	}
	ln, err := tls.Listen("tcp", "127.0.0.1:0", conf)
	if err != nil {
		t.Fatal(err)
	}
	b := &secured{addr: ln.Addr().String(), asked: make(chan string, 100)}
	serveHTTP(t, ln, func(w http.ResponseWriter, r *http.Request) {
		who := ""
		if len(r.TLS.PeerCertificates) > 0 {
			who = r.TLS.PeerCertificates[0].Subject.CommonName
		}
		b.asked <- r.TLS.ServerName + "/" + who
		answerHTTP(w)
	})
	return b
}

func serveHTTP(t *testing.T, ln net.Listener, h http.HandlerFunc) {
	t.Helper()
	srv := &http.Server{Handler: h, ReadHeaderTimeout: longest, ErrorLog: log.New(io.Discard, "", 0)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(ln)
	}()
	t.Cleanup(func() {
		_ = srv.Close()
		<-done
	})
}

func answerHTTP(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write([]byte(`{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"hello"},"finish_reason":"stop"}]}`))
}

// TestUpstreamTLS: whom the proxy trusts, who it says it is and whom it asks for are what the configuration says.
func TestUpstreamTLS(t *testing.T) {
	t.Parallel()
	const agentName = "agent.internal"
	servers, clients, strangers := newAuthority(t), newAuthority(t), newAuthority(t)
	dir := t.TempDir()
	file := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		write(t, path, data)
		return path
	}
	ca, other := file("ca.pem", servers.pem), file("other.pem", strangers.pem)
	cert, key := clients.issue("dragoman-client", time.Now().Add(testDay))
	mine := "cert_file: " + file("cert.pem", cert) + ", key_file: " + file("key.pem", key)
	cert, key = strangers.issue("dragoman-client", time.Now().Add(testDay))
	wrong := "cert_file: " + file("wrong.pem", cert) + ", key_file: " + file("wrong.key", key)

	for _, tt := range []struct {
		name   string
		mutual bool
		tls    string
		want   string // what the backend saw; empty: no request
	}{
		{"own authority and name", false, "ca_file: " + ca + ", server_name: " + agentName, agentName + "/"},
		{"the system's authorities", false, "server_name: " + agentName, ""},
		{"another authority", false, "ca_file: " + other + ", server_name: " + agentName, ""},
		{"no name for an address", false, "ca_file: " + ca, ""},
		{"another name", false, "ca_file: " + ca + ", server_name: other.internal", ""},
		{"unverified", false, "insecure_skip_verify: true, server_name: " + agentName, agentName + "/"},
		{"a client certificate", true, mine + ", ca_file: " + ca + ", server_name: " + agentName, agentName + "/dragoman-client"},
		{"a client certificate that nobody asks for", false, mine + ", ca_file: " + ca + ", server_name: " + agentName, agentName + "/"},
		{"no client certificate", true, "ca_file: " + ca + ", server_name: " + agentName, ""},
		{"another's client certificate", true, wrong + ", ca_file: " + ca + ", server_name: " + agentName, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var asks *authority
			if tt.mutual {
				asks = clients
			}
			b := serveSecured(t, servers, agentName, asks)
			p := start(t, strings.Replace(agentYAML("chat", b.addr, "tls: {"+tt.tls+"}"), "url: http://", "url: https://", 1))
			r := p.post("/v1/chat/completions", helloChat, "")
			if tt.want == "" {
				if r.status != 502 || len(b.asked) != 0 {
					t.Errorf("%d and %d requests, want 502 and none", r.status, len(b.asked))
				}
				return
			}
			if r.status != 200 {
				t.Fatalf("%d %s", r.status, r.body)
			}
			if got := <-b.asked; got != tt.want {
				t.Errorf("the backend saw %q, want %q", got, tt.want)
			}
		})
	}
}

// TestUpstreamTLSNameIsTheHost: without server_name the host of the url is asked for and verified.
func TestUpstreamTLSNameIsTheHost(t *testing.T) {
	t.Parallel()
	servers := newAuthority(t)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	write(t, ca, servers.pem)
	b := serveSecured(t, servers, "localhost", nil)
	p := start(t, strings.Replace(agentYAML("chat", "localhost:"+portOf(t, b.addr), "tls: {ca_file: "+ca+"}"), "url: http://", "url: https://", 1))
	if r := p.post("/v1/chat/completions", helloChat, ""); r.status != 200 {
		t.Fatalf("%d %s", r.status, r.body)
	}
	if got := <-b.asked; got != "localhost/" {
		t.Errorf("the backend was asked for %q, want localhost", got)
	}
}

// TestUnixSocketBackend: a backend on a socket serves requests, one that is not there is a 502, and it is found when it comes.
func TestUnixSocketBackend(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "") // the names of tests are too long for sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, "s")
	p := start(t, strings.Replace(agentYAML("chat", path), "url: http://", "url: unix:", 1))
	if r := p.post("/v1/chat/completions", helloChat, ""); r.status != 502 {
		t.Errorf("%d without a socket, want 502", r.status)
	}
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	hosts := make(chan string, 10)
	serveHTTP(t, ln, func(w http.ResponseWriter, r *http.Request) {
		hosts <- r.Host
		answerHTTP(w)
	})
	if r := p.post("/v1/chat/completions", helloChat, ""); r.status != 200 {
		t.Errorf("%d %s", r.status, r.body)
	}
	if got := <-hosts; got != "localhost" {
		t.Errorf("Host %q, want localhost", got)
	}
}

// TestProxiesOfTheEnvironmentAreNotUsed: a request to a backend goes there, whatever HTTP_PROXY and the like say. It sets the
// environment, so that it is not parallel.
func TestProxiesOfTheEnvironmentAreNotUsed(t *testing.T) {
	trap, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	caught := make(chan string, 100)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := trap.Accept()
			if err != nil {
				return
			}
			line, _ := bufio.NewReader(c).ReadString('\n')
			_ = c.Close()
			caught <- line
		}
	}()
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"} {
		t.Setenv(name, "http://"+trap.Addr().String())
		t.Setenv(strings.ToLower(name), "http://"+trap.Addr().String())
	}
	t.Setenv("NO_PROXY", "")
	t.Setenv("no_proxy", "")

	servers := newAuthority(t)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	write(t, ca, servers.pem)
	b := stage(t, answerChat)
	dns := &fakeDNS{}
	dns.set(nil, false, "127.0.0.1")
	// net/http's own rule spares loopback and addresses; a name is what it would send to a proxy.
	p := start(t, agentYAML("chat", b.addr), by(dns, portOf(t, b.addr)), checked(time.Hour, ""))
	if r := p.post("/v1/chat/completions", helloChat, ""); r.status != 200 {
		t.Errorf("http: %d %s", r.status, r.body)
	}
	s := serveSecured(t, servers, "agent.test", nil)
	p = start(t, strings.Replace(agentYAML("chat", s.addr, "tls: {ca_file: "+ca+", server_name: agent.test}"), "url: http://", "url: https://", 1), by(dns, portOf(t, s.addr)), checked(time.Hour, ""))
	if r := p.post("/v1/chat/completions", helloChat, ""); r.status != 200 {
		t.Errorf("https: %d %s", r.status, r.body)
	}
	_ = trap.Close()
	<-done
	if len(caught) != 0 {
		t.Errorf("the proxy of the environment was sent %q", <-caught)
	}
}
