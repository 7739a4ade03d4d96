package config

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"unicode"

	"go.yaml.in/yaml/v3"
)

// keysVariable holds the keys of a sidecar, which has no file.
const keysVariable = "DRAGOMAN_KEYS"

// Sidecar builds a configuration without a file, from words such as "support=cycls+http://127.0.0.1:8000" (a name, a
// protocol, a url), where to listen, and keys or none for who may call; what is empty means the default. Nothing is
// expanded in them: that is the shell's work.
//
// Two variables of the environment stand in for settings of a file: DRAGOMAN_ADMIN_LISTEN, where it is set, for
// admin.listen, and DRAGOMAN_KEYS for auth.keys. The latter holds keys with commas or white space between them, each as
// name=sha256:…, sha256:…, name=key or key; what comes before the first = is the name.
func Sidecar(specs []string, listen, auth string, o Options) (*Config, []Problem) {
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
	if auth != "" {
		root.Content = append(root.Content, stringNode("auth"), mappingOf("mode", auth))
	}
	root.Content = append(root.Content, stringNode("agents"), agents)
	return d.config(root)
}

// readVariable reads the keys of a sidecar. Its problems count the keys and quote none.
func readVariable(d *decoder) (entries []keyEntry) {
	text, set := d.opts.Getenv(keysVariable)
	if !set {
		return nil
	}
	words := strings.FieldsFunc(text, func(r rune) bool { return r == ',' || unicode.IsSpace(r) })
	for i, w := range words {
		at := value{d: d, node: &yaml.Node{Kind: yaml.ScalarNode}, path: fmt.Sprintf("%s[%d]", keysVariable, i), hidden: true}
		e := keyEntry{at: at, limits: at}
		name, key, named := strings.Cut(w, "=")
		if !named {
			name, key = "", w
		}
		var ok bool
		if strings.HasPrefix(key, "sha256:") {
			if e.key.Hash, ok = parseHash(key); !ok || e.key.Hash == [32]byte{} || e.key.Hash == sha256.Sum256(nil) {
				at.problem("wants sha256: and 64 hexadecimal digits, as `dragoman key` prints them")
				continue
			}
		} else if problem := KeyProblem(key); problem != "" {
			if named {
				problem += " (what comes before the first = is the key's name, so a key that holds one needs a name: name=key)"
			}
			at.problem("%s", problem)
			continue
		} else {
			at.warnOfBearer(key)
			e.key.Hash = sha256.Sum256([]byte(key))
		}
		if !named {
			// The same in every replica and after every change of the list.
			name = "key-" + hex.EncodeToString(e.key.Hash[:4])
		}
		if !agentName.MatchString(name) {
			at.problem("has a name that is not 1 to %d letters, digits, dots, underscores and hyphens: write name=key", maxName)
			continue
		}
		e.key.Name = name
		entries = append(entries, e)
	}
	return entries
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
