package auth

import (
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
		return nil, fmt.Errorf("key set: %w", err)
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
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	client := &http.Client{
		Transport: &http.Transport{
			Proxy:                  nil, // of the environment: whoever sets it could put keys of their own in
			DialContext:            dialer.DialContext,
			TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots},
			TLSHandshakeTimeout:    5 * time.Second,
			ResponseHeaderTimeout:  5 * time.Second,
			MaxResponseHeaderBytes: 32 << 10,
			DisableKeepAlives:      true, // the next time is in minutes
			DisableCompression:     true, // what is small on the wire is small in memory
			Protocols:              protocols,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return func(ctx context.Context) ([]byte, error) { return fetch(ctx, client, u) }, nil
}

func fetch(ctx context.Context, client *http.Client, u *url.URL) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, fmt.Errorf("fetch the key set from %s", u.Host)
	}
	req.Header.Set("Accept", "application/json, application/jwk-set+json")
	req.Header.Set("User-Agent", "dragoman")
	resp, err := client.Do(req)
	if err != nil {
		if wrapped, ok := errors.AsType[*url.Error](err); ok {
			err = wrapped.Err // without the whole url, which may hold a secret
		}
		return nil, fmt.Errorf("fetch the key set from %s: %w", u.Host, err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("fetch the key set from %s: status %d, want 200", u.Host, resp.StatusCode)
	}
	data, err := readKeySet(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("fetch from %s: %w", u.Host, err)
	}
	return data, nil
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
