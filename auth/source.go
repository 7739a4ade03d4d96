package auth

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"
)

// maxKeySet bounds the document with the keys.
const maxKeySet = 1 << 20

// keySource is how the keys are loaded. Its errors, and those of what it returns, hold no address beyond the host.
func keySource(c TokenConfig) (func(context.Context) ([]byte, error), error) {
	sources := 0
	for _, set := range []bool{c.JWKSURL != "", c.JWKSFile != "", c.JWKS != nil} {
		if set {
			sources++
		}
	}
	switch {
	case sources != 1:
		return nil, errors.New("exactly one of the url, the file and the set of the public keys is required")
	case c.JWKSURL != "":
		return urlSource(c.JWKSURL, nil)
	case c.JWKSFile != "":
		return func(context.Context) ([]byte, error) { return readKeyFile(c.JWKSFile) }, nil
	}
	data := slices.Clone(c.JWKS)
	return func(context.Context) ([]byte, error) { return data, nil }, nil
}

func readKeyFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("key set: %w", err)
	}
	if !info.Mode().IsRegular() { // a pipe would be waited for
		return nil, errors.New("the key set is not in a regular file")
	}
	f, err := os.Open(path) // #nosec G304 -- the configuration names it
	if err != nil {
		return nil, fmt.Errorf("key set: %w", err)
	}
	defer f.Close()
	return readKeySet(f)
}

func readKeySet(r io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxKeySet+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxKeySet {
		return nil, errors.New("the key set is larger than 1 MiB")
	}
	return data, nil
}

// urlSource fetches the keys from the issuer. roots are the authorities to trust; nil: the system's.
func urlSource(address string, roots *x509.CertPool) (func(context.Context) ([]byte, error), error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, errors.New("the url of the key set cannot be read")
	}
	secure := u.Scheme == "https"
	switch {
	case u.Host == "" || !secure && u.Scheme != "http":
		return nil, errors.New("the url of the key set does not begin with https:// and a host")
	case u.User != nil:
		return nil, errors.New("the url of the key set holds a user or a password")
	case !secure && !isLoopback(u.Hostname()):
		return nil, errors.New("the url of the key set must be https: whoever is on the way could put keys of their own in")
	}
	dialer := &net.Dialer{
		Timeout: 5 * time.Second,
		// A name says nothing about where it leads.
		Control: func(_, address string, _ syscall.RawConn) error { return checkAddress(address, secure) },
	}
	server := keyServer{url: u, dial: dialer.DialContext}
	if secure {
		secured := &tls.Dialer{NetDialer: dialer, Config: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots, NextProtos: []string{"http/1.1"}}}
		server.dial = secured.DialContext
	}
	return server.fetch, nil
}

// keyServer is where keys are fetched. One GET over a connection of its own does not need [http.Client], which would be 0.7 MB
// of the binary, and would have to be kept from redirects, proxies of the environment, connections that stay, and HTTP/2.
type keyServer struct {
	url  *url.URL
	dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// maxHead bounds what comes before the keys.
const maxHead = 32 << 10

func (s keyServer) fetch(ctx context.Context) ([]byte, error) {
	data, err := s.get(ctx)
	if err != nil {
		if ctx.Err() != nil {
			err = ctx.Err() // which has closed the connection
		}
		return nil, fmt.Errorf("fetch the key set from %s: %w", s.url.Host, err) // the rest of the url may hold a secret
	}
	return data, nil
}

func (s keyServer) get(ctx context.Context) ([]byte, error) {
	port := cmp.Or(s.url.Port(), map[string]string{"http": "80", "https": "443"}[s.url.Scheme])
	conn, err := s.dial(ctx, "tcp", net.JoinHostPort(s.url.Hostname(), port))
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	req := &http.Request{
		Method: http.MethodGet, URL: s.url, Host: s.url.Host, Close: true,
		Header: http.Header{"Accept": {"application/json, application/jwk-set+json"}, "User-Agent": {"dragoman"}},
	}
	if err := req.Write(conn); err != nil {
		return nil, err
	}
	limited := &io.LimitedReader{R: conn, N: maxHead}
	resp, err := http.ReadResponse(bufio.NewReader(limited), req)
	if err != nil {
		return nil, err
	}
	limited.N = 2 * maxKeySet // chunks have heads too
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("status %d, want 200", resp.StatusCode)
	}
	return readKeySet(resp.Body)
}

// isLoopback reports whether a host can only be this one.
func isLoopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true // and checkAddress sees what it leads to
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}

// checkAddress refuses addresses that no issuer has: those of the link, where clouds keep their metadata, and without TLS
// all but this host's own.
func checkAddress(address string, secure bool) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return errors.New("the address cannot be read")
	}
	addr := ap.Addr().Unmap()
	switch {
	case addr.IsLinkLocalUnicast() || addr.IsMulticast() || addr.IsUnspecified():
		return errors.New("the host is at a link-local or metadata address")
	case !secure && !addr.IsLoopback():
		return errors.New("the host is not this one, and the url is not https")
	}
	return nil
}
