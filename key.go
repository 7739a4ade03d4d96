package main

import (
	"encoding/hex"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/dragoman-proxy/dragoman/auth"
	"github.com/dragoman-proxy/dragoman/internal/config"
)

// longestKey is more than a key may have, and as much as is read of one.
const longestKey = 64 << 10

// keyCommand is `dragoman key`.
func keyCommand(name string, hash bool, stdin io.Reader, stdout, stderr io.Writer) error {
	if problem := config.KeyNameProblem(name); problem != "" {
		return fmt.Errorf("-name %s", problem)
	}
	if hash {
		return hashKey(name, stdin, stdout)
	}
	return makeKey(name, stdout, stderr)
}

// makeKey prints a new key, and below it the lines for auth.keys. Nothing else keeps the key: what explains the lines goes
// to stderr, so that stdout can be taken apart.
func makeKey(name string, stdout, stderr io.Writer) error {
	key, err := auth.GenerateKey()
	if err != nil {
		return fmt.Errorf("make a key: %w", err)
	}
	fmt.Fprintln(stderr, "The first line is the key, for whoever calls: it is shown this once. The others go below auth.keys.")
	_, err = fmt.Fprintf(stdout, "%s\n\n%s", key, keyLines(name, key))
	return err
}

// hashKey prints the lines for auth.keys of a key that exists already.
func hashKey(name string, stdin io.Reader, stdout io.Writer) error {
	data, err := io.ReadAll(io.LimitReader(stdin, longestKey))
	if err != nil {
		return fmt.Errorf("read the key from standard input: %w", err)
	}
	key := strings.TrimRight(string(data), "\r\n")
	if problem := config.KeyProblem(key); problem != "" {
		return fmt.Errorf("the key on standard input %s", problem)
	}
	_, err = io.WriteString(stdout, keyLines(name, key))
	return err
}

var plainName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_-]*$`)

// keyLines is an entry of auth.keys.
func keyLines(name, key string) string {
	if !plainName.MatchString(name) || slices.Contains([]string{"true", "false", "null", "yes", "no", "on", "off", "y", "n"}, strings.ToLower(name)) {
		name = strconv.Quote(name)
	}
	hash := auth.HashKey([]byte(key))
	return fmt.Sprintf("- name: %s\n  hash: sha256:%s\n", name, hex.EncodeToString(hash[:]))
}
