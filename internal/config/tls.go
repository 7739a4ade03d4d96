package config

import (
	"crypto/tls"
	"crypto/x509"
	"path/filepath"
)

// TLS is for https:// backends whose certificate the system does not trust, or that ask for one. Files are read and
// checked when the configuration is loaded; their paths are absolute.
type TLS struct {
	// CAFile holds the certificates, in PEM, that the backend's is checked against. Default: empty, which means those
	// of the system. Set it for a private authority; then only that authority is trusted.
	CAFile string

	// CertFile and KeyFile hold the certificate, in PEM, that Dragoman shows to the backend. Default: none. Set both
	// where the backend asks for one.
	CertFile string

	// KeyFile holds the private key of CertFile.
	KeyFile string

	// ServerName is the name that the backend's certificate must bear, and that is sent as SNI. Default: empty, which
	// means the host of the url.
	ServerName string

	// InsecureSkipVerify accepts any certificate. Default: false. Anyone on the way can then read and change
	// everything: use CAFile instead.
	InsecureSkipVerify bool

	client *tls.Config
}

// Client is the TLS configuration towards a backend on host (without its port). It is the caller's own copy.
func (t TLS) Client(host string) *tls.Config {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if t.client != nil {
		c = t.client.Clone()
	}
	c.ServerName = host
	if t.ServerName != "" {
		c.ServerName = t.ServerName
	}
	c.InsecureSkipVerify = t.InsecureSkipVerify // the operator wrote it, and was warned
	return c
}

func (t *TLS) read(v value) map[string]value {
	return v.mapping(fields{
		"ca_file":              filePath(&t.CAFile, "ca.pem"),
		"cert_file":            filePath(&t.CertFile, "cert.pem"),
		"key_file":             filePath(&t.KeyFile, "key.pem"),
		"server_name":          t.readServerName,
		"insecure_skip_verify": boolean(&t.InsecureSkipVerify),
	})
}

func (t *TLS) readServerName(v value) {
	text, ok := v.text("a host name")
	if !ok || text == "" {
		return
	}
	if problem := checkHostName(text); problem != "" {
		v.problem("wants a host name in lower case, such as agent.internal")
		return
	}
	t.ServerName = text
}

// filePath reads the absolute path of a file, or nothing.
func filePath(to *string, example string) func(value) {
	return func(v value) {
		text, ok := v.text("the absolute path of a file")
		if !ok {
			return
		}
		if text != "" && !filepath.IsAbs(text) {
			v.problem("wants an absolute path, such as /etc/dragoman/%s", example)
			return
		}
		*to = text
	}
}

// build reads the files. What is wrong with them is told here and now, not with the first request.
func (t *TLS) build(v value, written map[string]value) {
	at := func(key string) value {
		if w, ok := written[key]; ok {
			return w
		}
		return v
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if t.CAFile != "" {
		c.RootCAs = readPool(at("ca_file"), t.CAFile)
	}
	if pair := readPair(at, t.CertFile, t.KeyFile); pair != nil {
		c.Certificates = []tls.Certificate{*pair}
	}
	if t.InsecureSkipVerify {
		at("insecure_skip_verify").warn("anyone on the way can read and change everything: use ca_file instead")
	}
	t.client = c
}

// readPool reads a file of certificates.
func readPool(at value, path string) *x509.CertPool {
	pem, ok := at.file(path)
	if !ok {
		return nil
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		at.problem("holds no certificate in PEM")
	}
	return pool
}

// readPair reads a certificate and its private key; it is nil where there is none, or something is wrong.
func readPair(at func(key string) value, certFile, keyFile string) *tls.Certificate {
	switch {
	case certFile == "" && keyFile == "":
		return nil
	case keyFile == "":
		at("cert_file").problem("needs key_file, the private key of that certificate")
		return nil
	case certFile == "":
		at("key_file").problem("needs cert_file, the certificate of that key")
		return nil
	}
	cert, ok1 := at("cert_file").file(certFile)
	key, ok2 := at("key_file").file(keyFile)
	if !ok1 || !ok2 {
		return nil
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		at("cert_file").problem("and key_file are not a certificate and its private key, both in PEM")
		return nil
	}
	return &pair
}

// file reads a file that a value names.
func (v value) file(path string) ([]byte, bool) {
	data, err := v.d.opts.ReadFile(path)
	if err != nil {
		v.problem("cannot be read: %s", fileProblem(err))
		return nil, false
	}
	if len(data) > maxFile {
		v.problem("is larger than %v", Size(maxFile))
		return nil, false
	}
	return data, true
}
