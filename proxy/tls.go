package proxy

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/dragoman-proxy/dragoman/internal/config"
)

// certificatePoll is how often the files of the listener's certificate are looked at.
// They are read and compared, not stat'ed or watched: a mounted Secret changes by a
// symlink two directories up, and no watch survives every way of replacing a file.
const certificatePoll = 5 * time.Second

// certificates is what the TLS listener shows to clients and asks of them, read again
// when its files change. What cannot be used is reported once and the last good one
// stays.
type certificates struct {
	conf    config.ServerTLS
	log     *zap.Logger
	every   time.Duration
	current atomic.Pointer[certificate]
	refused string // what was wrong with the files, reported already

	stop chan struct{}
	once sync.Once
	wait sync.WaitGroup
}

// certificate is one state of the files. Each has a tls.Config of its own that is
// used as it stands, neither cloned nor reached through GetConfigForClient: so the
// keys of its session tickets are its own too, and a session that began under an
// authority which has been taken out since cannot be resumed.
type certificate struct {
	conf     *tls.Config
	notAfter time.Time
	sum      [sha256.Size]byte // of the files
}

// loadCertificates reads the files for the first time.
func loadCertificates(conf config.ServerTLS, log *zap.Logger) (*certificates, error) {
	c := &certificates{conf: conf, log: log, every: certificatePoll, stop: make(chan struct{})}
	now, _, err := c.read()
	if err != nil {
		return nil, fmt.Errorf("server.tls: %w", err)
	}
	c.current.Store(now)
	return c, nil
}

// start begins to look at the files now and then.
func (c *certificates) start() {
	c.wait.Go(func() {
		t := time.NewTicker(c.every)
		defer t.Stop()
		for {
			select {
			case <-t.C:
				c.poll()
			case <-c.stop:
				return
			}
		}
	})
}

// close ends what start began. It may be called again, and without start.
func (c *certificates) close() {
	c.once.Do(func() { close(c.stop) })
	c.wait.Wait()
}

// poll takes the files' content if it has changed and can be used. One goroutine
// calls it.
func (c *certificates) poll() {
	old := c.current.Load()
	now, sum, err := c.read()
	switch {
	case err == nil && sum == old.sum:
		c.refused = ""
		return
	case err == nil && expired(now) && !expired(old):
		err = fmt.Errorf("%s: the certificate expired at %s", c.conf.CertFile, now.notAfter.UTC().Format(time.RFC3339))
	}
	if err != nil {
		// The same fault of other content is news: somebody has tried again.
		if what := string(sum[:]) + err.Error(); what != c.refused {
			c.refused = what
			c.log.Error("server.tls cannot be read again; the certificate in use stays", zap.Error(err), zap.Time("not_after", old.notAfter))
		}
		return
	}
	c.refused = ""
	c.current.Store(now)
	c.log.Info("server.tls was read again", zap.Time("not_after", now.notAfter))
}

func expired(c *certificate) bool { return time.Now().After(c.notAfter) }

// read reads the files. sum is that of their content, whatever is wrong with it; the
// content itself, a private key, is not kept.
func (c *certificates) read() (now *certificate, sum [sha256.Size]byte, err error) {
	var content [3][]byte
	h := sha256.New()
	for i, path := range []string{c.conf.CertFile, c.conf.KeyFile, c.conf.ClientCAFile} {
		if path == "" {
			continue
		}
		if content[i], err = os.ReadFile(path); err != nil { // #nosec G304 -- the operator's own files
			return nil, sum, err
		}
		var size [8]byte
		binary.BigEndian.PutUint64(size[:], uint64(len(content[i])))
		h.Write(size[:])
		h.Write(content[i])
	}
	h.Sum(sum[:0])
	if old := c.current.Load(); old != nil && old.sum == sum {
		return old, sum, nil
	}
	now, err = c.parse(content[0], content[1], content[2])
	if err == nil {
		now.sum = sum
	}
	return now, sum, err
}

// parse makes a configuration of the files' content. Errors never show it.
func (c *certificates) parse(cert, key, authorities []byte) (*certificate, error) {
	if _, err := parseCertificates(cert); err != nil {
		return nil, fmt.Errorf("%s: %w", c.conf.CertFile, err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("%s and %s are not a certificate and its private key", c.conf.CertFile, c.conf.KeyFile)
	}
	conf := &tls.Config{
		MinVersion:   tls.VersionTLS12,
		Certificates: []tls.Certificate{pair},
		// A client that insists on another protocol is told so by an alert; one
		// that names none speaks HTTP/1.1.
		NextProtos: []string{"http/1.1"},
	}
	if c.conf.ClientCAFile != "" {
		all, err := parseCertificates(authorities)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", c.conf.ClientCAFile, err)
		}
		conf.ClientAuth, conf.ClientCAs = tls.RequireAndVerifyClientCert, x509.NewCertPool()
		for _, a := range all {
			conf.ClientCAs.AddCert(a)
		}
	}
	return &certificate{conf: conf, notAfter: pair.Leaf.NotAfter}, nil
}

var (
	errNoCertificate  = errors.New("there is no certificate in PEM")
	errBadCertificate = errors.New("one of the certificates cannot be read; is the file complete?")
)

// parseCertificates reads every certificate of a file. Unlike
// [x509.CertPool.AppendCertsFromPEM] it does not leave out what it cannot read: half a
// file must not pass for a shorter one.
func parseCertificates(data []byte) ([]*x509.Certificate, error) {
	var all []*x509.Certificate
	for {
		var block *pem.Block
		block, data = pem.Decode(data)
		if block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, errBadCertificate
		}
		all = append(all, cert)
	}
	switch {
	case bytes.Contains(data, []byte("-----BEGIN")):
		return nil, errBadCertificate
	case len(all) == 0:
		return nil, errNoCertificate
	}
	return all, nil
}

// expiry is when the certificate in use ends, in Unix seconds.
func (c *certificates) expiry() float64 { return float64(c.current.Load().notAfter.Unix()) }

// server puts TLS on a client's connection. The handshake is for the first read
// (clientConn.handshake).
func (c *certificates) server(raw net.Conn) *tls.Conn {
	return tls.Server(&tlsWire{Conn: raw}, c.current.Load().conf)
}

// tlsWire is what lies under TLS.
type tlsWire struct {
	net.Conn
	closing atomic.Bool
}

// Write implements net.Conn. The last word of a connection is tried once: tls.Conn
// would wait for five seconds until a client takes it that takes nothing.
func (w *tlsWire) Write(p []byte) (int, error) {
	if w.closing.Load() {
		return writeOnce(w.Conn, p)
	}
	return w.Conn.Write(p)
}

// NetConn is the connection below, for the watcher.
func (w *tlsWire) NetConn() net.Conn { return w.Conn }

// endTLS closes a connection in order, if the client takes it at once.
func endTLS(c *tls.Conn) error {
	c.NetConn().(*tlsWire).closing.Store(true)
	return c.Close()
}

// handshake greets a TLS client, in its worker and under the read deadline of a first
// request, which bounds all of it and not each byte.
func (c *clientConn) handshake() error {
	if d := c.l.headTimeout; d > 0 {
		_ = c.SetWriteDeadline(time.Now().Add(d))
	}
	err := c.tls.Handshake()
	if err == nil {
		c.shook.Store(true)
		return c.SetWriteDeadline(time.Time{})
	}
	c.torn.Store(true)                                                        // the alert has been sent
	if e := c.l.log.Check(zap.DebugLevel, "TLS handshake failed"); e != nil { // anybody can make it fail
		e.Write(zap.Stringer("remote", c.RemoteAddr()), zap.String("error", printable(err.Error())))
	}
	var bad tls.RecordHeaderError
	if errors.As(err, &bad) && bad.Conn != nil && looksLikeHTTP(bad.RecordHeader) {
		c.sayHTTPS()
	}
	return err
}

func looksLikeHTTP(head [5]byte) bool {
	switch string(head[:]) {
	case "GET /", "HEAD ", "POST ", "PUT /", "OPTIO", "DELET", "PATCH":
		return true
	}
	return false
}

const (
	speaksHTTPS     = "This port speaks HTTPS: write https:// and not http:// in the URL.\n"
	maxPlainRequest = 64 << 10 // read, so that the answer is not lost in a reset
)

// sayHTTPS answers a client that does not speak TLS, within the time it had for a
// handshake.
func (c *clientConn) sayHTTPS() {
	_, err := io.WriteString(c.raw, "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\nContent-Length: "+
		strconv.Itoa(len(speaksHTTPS))+"\r\n\r\n"+speaksHTTPS)
	half, ok := c.raw.(interface{ CloseWrite() error })
	if err != nil || !ok || half.CloseWrite() != nil {
		return
	}
	_, _ = io.CopyN(io.Discard, c.raw, maxPlainRequest)
}
