package auth

const (
	// minCredential keeps keys out of reach of guessing.
	minCredential = 20

	// maxCredential bounds what is hashed and parsed.
	maxCredential = 8 << 10
)

// bearer is the credential in the value of an Authorization header, as RFC 6750 writes it: the scheme in any case, one
// space, and token68. Lists, parameters and anything around the token are refused rather than trimmed: two readers that
// trim differently see two credentials.
func bearer(value []byte) (credential []byte, ok bool) {
	const scheme = "bearer"
	if len(value) <= len(scheme)+1 || value[len(scheme)] != ' ' {
		return nil, false
	}
	for i := range len(scheme) {
		if value[i]|0x20 != scheme[i] {
			return nil, false
		}
	}
	credential = value[len(scheme)+1:]
	return credential, isToken68(credential)
}

// isToken68 reports whether s is RFC 9110's token68 in the permitted length.
func isToken68(s []byte) bool {
	end := len(s)
	for end > 0 && s[end-1] == '=' {
		end--
	}
	if end == 0 || len(s) > maxCredential {
		return false
	}
	var foreign uint8 // gathered, since a branch for each byte of a token costs more than its hash
	for _, c := range s[:end] {
		foreign |= notToken68[c]
	}
	return foreign == 0
}

// notToken68 is 1 for what has no place in token68.
var notToken68 = func() (t [256]uint8) {
	for i := range t {
		t[i] = 1
	}
	for _, c := range []byte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~+/") {
		t[c] = 0
	}
	return t
}()

// isAPIKey reports whether the value of x-api-key can be a key: visible ASCII in the permitted length. That is wider than
// token68, because such a header has no grammar of its own and keys from elsewhere may hold more.
func isAPIKey(s []byte) bool {
	if len(s) == 0 || len(s) > maxCredential {
		return false
	}
	for _, c := range s {
		if c <= ' ' || c >= 0x7f {
			return false
		}
	}
	return true
}
