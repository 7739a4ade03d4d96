package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

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

// Sidecar builds a configuration without a file, from words such as "support=cycls+http://127.0.0.1:8000" (a name, a
// protocol, a url) and where to listen; an empty listen means the default. Nothing is expanded in them: that is the
// shell's work. The variable DRAGOMAN_ADMIN_LISTEN, where it is set, says what admin.listen says in a file.
func Sidecar(specs []string, listen string, o Options) (*Config, []Problem) {
	d := newDecoder("command line", o)
	d.literal = true
	agents := &yaml.Node{Kind: yaml.SequenceNode}
	for i, spec := range specs {
		name, rest, ok := strings.Cut(spec, "=")
		protocol, url, ok2 := strings.Cut(rest, "+")
		if !ok || !ok2 {
			// The word itself may hold a password.
			d.add(Error, 0, fmt.Sprintf("agents[%d]", i), "wants name=protocol+url, such as support=cycls+http://127.0.0.1:8000")
			agents.Content = append(agents.Content, &yaml.Node{Kind: yaml.AliasNode})
			continue
		}
		agents.Content = append(agents.Content, mappingOf("name", name, "protocol", protocol, "url", url))
	}
	root := &yaml.Node{Kind: yaml.MappingNode}
	if listen != "" {
		root.Content = append(root.Content, stringNode("server"), mappingOf("listen", listen))
	}
	if admin, ok := d.opts.Getenv(adminVariable); ok {
		root.Content = append(root.Content, stringNode("admin"), mappingOf("listen", admin))
	}
	root.Content = append(root.Content, stringNode("agents"), agents)
	return d.config(root)
}

func stringNode(text string) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: text}
}

func mappingOf(pairs ...string) *yaml.Node {
	n := &yaml.Node{Kind: yaml.MappingNode}
	for _, p := range pairs {
		n.Content = append(n.Content, stringNode(p))
	}
	return n
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
	if d.opts.Listen != "" {
		listen, problem := parseListen(d.opts.Listen)
		if problem != "" {
			d.add(Error, 0, "-listen", problem)
		}
		c.Server.Listen = listen
	}
	if d.count[Error] > 0 {
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
