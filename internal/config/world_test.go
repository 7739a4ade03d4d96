package config

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"math/big"
	"sync"
	"testing"
)

// testToken is the secret that must never be seen.
const testToken = "c4nary-t0ken"

var testProtocols = []string{"chat", "responses", "cognipeer", "ticos", "swarms", "cycls"}

// testOptions is a small world: a few variables, a few files, a few options.
func testOptions(t testing.TB) Options {
	t.Helper()
	cert, key := testCertificate()
	_, otherKey := newTestCertificate()
	variables := map[string]string{"TOKEN": testToken, "EMPTY": "", "PORT": "9000", "NAME": "support", "YES": "true",
		"CALLER": testToken + "-of-a-caller", "REDIS_URL": "redis://:" + testToken + "@127.0.0.1:6379/1"}
	files := map[string]string{
		"/token":           testToken + "\r\n",
		"/two-lines":       testToken + "\n" + testToken + "\n",
		"/ca.pem":          cert,
		"/cert.pem":        cert,
		"/key.pem":         key,
		"/other-key.pem":   otherKey,
		"/jwks.json":       `{"keys":[{"kty":"EC"}]}`,
		"/no-keys.json":    `{"keys":[]}`,
		"/caller":          testToken + "-in-a-file\n",
		"/keys.yaml":       "keys:\n  - name: c\n    key: {file: /caller}\n    disabled: true\n",
		"/keys-list.yaml":  "# two\n- {name: d, key: {env: CALLER}, agents: [nobody]}\n",
		"/keys-empty.yaml": "",
		"/keys-none.yaml":  "[]\n",
		"/keys-key.yaml":   testToken + "-as-a-setting: true\n",
		"/keys-bad.yaml": "- {name: a, hash: \"sha256:0000000000000000000000000000000000000000000000000000000000000001\"}\n" +
			"- {name: a, hash: \"sha256:0000000000000000000000000000000000000000000000000000000000000002\", limits: {concurrent: 1}}\n" +
			"- {name: b, key: {value: hunter2}}\n- {name: b, expire: 2027-01-01, key: {value: hunter2-hunter2-hunter2}}\n",
	}
	return Options{
		Protocols: testProtocols,
		Getenv: func(name string) (string, bool) {
			v, ok := variables[name]
			return v, ok
		},
		ReadFile: func(path string) ([]byte, error) {
			text, ok := files[path]
			if !ok {
				return nil, &fs.PathError{Op: "open", Path: path, Err: errors.New("no such file or directory")}
			}
			return []byte(text), nil
		},
		OptionCheck: func(protocol, key, value string) error {
			switch key {
			case "history":
				if value != "id" && value != "messages" {
					return errors.New(`wants id or messages, not "` + value + `"`)
				}
			case "probe", "limit", "public_url":
			default:
				return errors.New("unknown option of protocol " + protocol)
			}
			return nil
		},
		DefaultCheck: func(protocol, name string) error {
			if protocol == "ticos" && name != "system_prompt" {
				return errors.New("is never sent: protocol ticos has no such setting")
			}
			return nil
		},
	}
}

// testCertificate is a certificate and its key, in PEM.
var testCertificate = sync.OnceValues(newTestCertificate)

func newTestCertificate() (cert, key string) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		panic(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		panic(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}))
}
