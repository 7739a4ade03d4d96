package main

const usage = `Usage:
  dragoman [serve] [-config config.yaml] [-listen address]
  dragoman serve -agent name=protocol+url [-agent ...] [-listen address] [-auth keys|none]
  dragoman check [-config config.yaml]
  dragoman key [-name name] [-hash]
  dragoman health [-config config.yaml | -address address]
  dragoman version

serve    answers clients until it gets SIGTERM, which drains, or SIGINT, which does so without the delay; a second
         one ends it at once, with exit status 1; SIGHUP, and a change of its files, has the configuration read
         again; with -agent it needs no file, and takes keys from the environment variable DRAGOMAN_KEYS
         ("name=key name=key"), or lets everybody in with -auth none
check    prints every problem of the configuration; exit status 1 if it cannot be used
key      makes a key, and prints it once with the lines for auth.keys; with -hash the lines for a key that it reads
         from standard input
health   asks a running proxy whether it is ready, and why: exit status 0 or 1, within two seconds. It asks admin.listen of
         the configuration, or server.listen where that is off; -address 127.0.0.1:8081, unix:/path or https://host:port
         needs no file
version  prints the version

Protocols: `

// Exit codes.
const (
	exitFailed = 1
	exitUsage  = 2
)
