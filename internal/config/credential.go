package config

import "strings"

// Credential is how Dragoman identifies itself to a backend. In the file it is one of
//
//	credential: {bearer: SECRET}                      Authorization: Bearer SECRET
//	credential: {x-api-key: SECRET}                   x-api-key: SECRET
//	credential: {header: api-key, value: SECRET}      a header of another name, its value taken whole
//
//	credential: {forward: true}                       the client's own Authorization
//
// where SECRET is a [Secret].
type Credential struct {
	// Header is the name of the field to send; empty means that there is no credential.
	Header string

	// Value is the field's whole value, "Bearer " included.
	Value Secret

	// Forward sends the client's own Authorization on, for backends that check their users themselves. Default: false. It
	// stands alone. While any agent has it, keys of this proxy are presented as x-api-key, and the backend's 401 and 403
	// reach the client.
	Forward bool
}

// IsZero reports whether Dragoman has no credential of its own for the backend.
func (c Credential) IsZero() bool { return c.Header == "" }

func (c *Credential) read(v value) {
	const want = "one of {bearer: SECRET}, {x-api-key: SECRET} or {header: Name, value: SECRET} (or {forward: true}), where SECRET is {env: NAME}, {file: /path} or {value: text}"
	v.hidden = true
	if v.reported() {
		return
	}
	if k := v.kind(); k != "a mapping" && k != "nothing" {
		v.problem("wants %s, not %s", want, k)
		return
	}
	var bearer, key, val Secret
	var header string
	var forward bool
	before := v.d.count[Error]
	written := v.mapping(fields{
		"bearer":    secret(&bearer),
		"x-api-key": secret(&key),
		"header": func(v value) {
			text, ok := v.text("the name of a header")
			if !ok {
				return
			}
			if problem := checkHeaderName(text); problem != "" {
				v.problem("%s", problem)
				return
			}
			header = text
		},
		"value":   secret(&val),
		"forward": boolean(&forward),
	})
	if v.d.count[Error] > before {
		return
	}
	_, hasBearer := written["bearer"]
	_, hasKey := written["x-api-key"]
	_, hasHeader := written["header"]
	_, hasValue := written["value"]
	_, hasForward := written["forward"]
	switch {
	case len(written) == 0:
	case hasForward && len(written) == 1:
		c.Forward = forward
	case hasBearer && len(written) == 1:
		if token := bearer.Reveal(); len(token) > 7 && strings.EqualFold(token[:7], "bearer ") {
			written["bearer"].problem("begins with the word Bearer: leave it out, it is added")
			return
		}
		*c = Credential{Header: "Authorization", Value: NewSecret("Bearer " + bearer.Reveal())}
	case hasKey && len(written) == 1:
		*c = Credential{Header: "x-api-key", Value: key}
	case hasHeader && hasValue && len(written) == 2:
		*c = Credential{Header: header, Value: val}
	default:
		v.problem("wants %s", want)
	}
}
