package config

import (
	"errors"
	"io"
	"io/fs"
	"os"

	"go.yaml.in/yaml/v3"
)

// Options are what a configuration is read with: the parts of the world that it refers to.
type Options struct {
	// Protocols are the names that an agent's protocol may have.
	Protocols []string

	// OptionCheck judges one of an agent's options; its error says what to write instead, and may quote the value. Nil refuses
	// every option.
	OptionCheck func(protocol, key, value string) error

	// DefaultCheck says why one of an agent's defaults is never sent to a backend of its protocol, which is a warning. Nil
	// warns of none.
	DefaultCheck func(protocol, name string) error

	// Listen is where to listen in place of what the file says; empty: what the file says.
	Listen string

	// Getenv looks an environment variable up. Nil means [os.LookupEnv].
	Getenv func(name string) (string, bool)

	// ReadFile reads the configuration, secrets and certificates. Nil means the file system.
	ReadFile func(path string) ([]byte, error)
}

// Load reads a configuration from a file. The configuration is nil if any of the problems is an [Error].
func Load(path string, o Options) (*Config, []Problem) {
	d := newDecoder(path, o)
	data, err := d.opts.ReadFile(path)
	if err != nil {
		d.add(Error, 0, "", "cannot be read: "+fileProblem(err))
		return nil, d.finish()
	}
	return Parse(path, data, o)
}

// Parse reads a configuration from bytes; name is what problems call the file. The configuration is nil if any of the
// problems is an [Error].
func Parse(name string, data []byte, o Options) (*Config, []Problem) {
	d := newDecoder(name, o)
	root := d.parseYAML(data)
	if root == nil {
		return nil, d.finish()
	}
	return d.config(root)
}

// Remains is what can be made out of a file with mistakes, where a setting that is wrong has its default. It tells where a
// proxy listens that began with a better file, and is not fit to serve with. It is nil where the file is no YAML or does not
// mention admin.
func Remains(path string, o Options) *Config {
	d := newDecoder(path, o)
	data, err := d.opts.ReadFile(path)
	if err != nil {
		return nil
	}
	root := d.parseYAML(data)
	if root == nil || root.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i < len(root.Content); i += 2 {
		if root.Content[i].Value == "admin" {
			c := Default()
			c.read(value{d: d, node: root})
			return &c
		}
	}
	return nil
}

func newDecoder(file string, o Options) *decoder {
	if o.Getenv == nil {
		o.Getenv = os.LookupEnv
	}
	if o.ReadFile == nil {
		o.ReadFile = readFile
	}
	return &decoder{file: file, opts: o}
}

// config reads a whole configuration.
func (d *decoder) config(root *yaml.Node) (*Config, []Problem) {
	c := Default()
	c.read(value{d: d, node: root})
	if d.errors() > 0 {
		return nil, d.finish()
	}
	return &c, d.finish()
}

// readFile reads a file, but never more than a configuration can hold: /dev/zero is a file as well.
func readFile(path string) ([]byte, error) {
	f, err := os.Open(path) //nolint:gosec // reading the files that the operator names is what it is for
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxFile+1))
}

// fileProblem is why a file cannot be read, without its name, which may have come from the environment.
func fileProblem(err error) string {
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		return pe.Err.Error()
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "no such file"
	case errors.Is(err, fs.ErrPermission):
		return "permission denied"
	}
	return "reading it failed"
}
