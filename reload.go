package main

import (
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/dragoman-proxy/dragoman/internal/config"
)

const (
	// filePoll is how often the files of the configuration are looked at. They are read
	// and compared, not watched: a mounted ConfigMap changes by a symlink two directories
	// up, and no watch survives every way of replacing a file.
	filePoll = 2 * time.Second
	// maxRead bounds what is read of a file; the configuration refuses less.
	maxRead = 4 << 20
)

// source is where the configuration comes from, and what was in its files when it was
// read last. One goroutine uses it.
type source struct {
	options config.Options
	parse   func(config.Options) (*config.Config, []config.Problem)
	hangups chan os.Signal

	seen   map[string][sha256.Size]byte // the files that were read, by their path
	others map[string]bool              // those of them that the server reads again by itself
	moving [sha256.Size]byte            // what they hold while they are being changed
	again  bool                         // it is not the first time
}

func newSource(o config.Options) *source {
	s := &source{options: o, hangups: make(chan os.Signal, 1)}
	s.options.ReadFile = s.readFile
	return s
}

// catchHangups has SIGHUP ask for a reload, and not end the program. What it returns
// undoes that.
func (s *source) catchHangups() (stop func()) {
	signal.Notify(s.hangups, syscall.SIGHUP)
	return func() { signal.Stop(s.hangups) }
}

// load reads the configuration. After a bad one the files of the last good one count
// too: the mistake may be in one that the bad one does not name.
func (s *source) load() (*config.Config, []config.Problem) {
	before := s.seen
	s.seen = map[string][sha256.Size]byte{}
	conf, problems := s.parse(s.options)
	if conf == nil {
		for path := range before {
			if _, known := s.seen[path]; !known {
				s.seen[path] = contentOf(path)
			}
		}
		s.others = nil // every one of them may be what is mended
	} else {
		s.others = map[string]bool{conf.Server.TLS.CertFile: true, conf.Server.TLS.KeyFile: true, conf.Server.TLS.ClientCAFile: true}
		for _, path := range conf.WatchedFiles() {
			s.others[path] = true
		}
		if j := conf.Auth.JWT; j != nil {
			s.others[j.JWKSFile] = true
		}
	}
	s.again, s.moving = true, [sha256.Size]byte{}
	return conf, problems
}

// readFile reads a file for the configuration, and remembers what was in it.
func (s *source) readFile(path string) ([]byte, error) {
	if s.again { // at the start a pipe will do, but it has nothing to say a second time
		if err := regular(path); err != nil {
			s.seen[path] = digest(nil, err)
			return nil, err
		}
	}
	data, err := readFile(path)
	s.seen[path] = digest(data, err)
	return data, err
}

// changed reports whether the files are others than when they were read last, and have
// stopped changing: a file that is being written is not read by halves.
func (s *source) changed() bool {
	differ := false
	var now [sha256.Size]byte
	for path, was := range s.seen {
		if s.others[path] {
			continue
		}
		is := contentOf(path)
		differ = differ || is != was
		// The order of a map is any, so that the sums are added.
		for i, b := range sha256.Sum256(append([]byte(path), is[:]...)) {
			now[i] ^= b
		}
	}
	settled := now == s.moving
	s.moving = now
	return differ && settled
}

var errNotRegular = errors.New("is not a regular file")

// regular refuses what could be waited for without an end.
func regular(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return &fs.PathError{Op: "open", Path: path, Err: errNotRegular}
	}
	return nil
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path) // #nosec G304 -- the files that the operator names
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxRead))
}

// contentOf is the digest of what a file holds now.
func contentOf(path string) [sha256.Size]byte {
	if err := regular(path); err != nil {
		return digest(nil, err)
	}
	return digest(readFile(path))
}

// digest tells contents apart, and a file that cannot be read from all of them.
func digest(data []byte, err error) [sha256.Size]byte {
	if err != nil {
		return [sha256.Size]byte{}
	}
	return sha256.Sum256(data)
}
