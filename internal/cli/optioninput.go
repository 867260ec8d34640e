package cli

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"
	"unicode/utf8"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/admin"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
)

// maxInput is how many bytes of a file or of standard input are read. A rule's secrets have to fit a column of 64 KiB.
const maxInput = 1 << 20

// inputs reads what flags name, each thing once.
type inputs struct {
	stdin io.Reader
	taken string // the flag that standard input was read for
}

func (in *inputs) readStdin(flag string) ([]byte, error) {
	if in.taken != "" {
		return nil, usagef("--%s: standard input was read for --%s already: name a file", flag, in.taken)
	}
	in.taken = flag
	if in.stdin == nil {
		return nil, usagef("--%s: there is no standard input", flag)
	}
	return readAll(flag, in.stdin)
}

// readFile reads a file. Its errors do not hold the name: what was meant as the content may stand in its place.
func (in *inputs) readFile(flag, path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, usagef("--%s: the file that it names cannot be read: %w", flag, bare(err))
	}
	defer f.Close() //nolint:errcheck // it was only read
	return readAll(flag, f)
}

func readAll(flag string, from io.Reader) ([]byte, error) {
	content, err := io.ReadAll(io.LimitReader(from, maxInput+1))
	switch {
	case err != nil:
		return nil, usagef("--%s: what it names cannot be read: %w", flag, bare(err))
	case len(content) > maxInput:
		return nil, usagef("--%s: what it names is larger than %d bytes", flag, maxInput)
	}
	return content, nil
}

// bare takes the name of the file out of an error.
func bare(err error) error {
	if path, ok := errors.AsType[*fs.PathError](err); ok {
		return path.Err
	}
	return err
}

// secret returns what the value of a secret's flag means: @FILE a file without the line break at its end, - standard input, anything
// else itself.
func (in *inputs) secret(flag, value string) (string, error) {
	var content []byte
	var err error
	switch {
	case value == "-":
		content, err = in.readStdin(flag)
	case strings.HasPrefix(value, "@"):
		content, err = in.readFile(flag, value[1:])
	default:
		content = []byte(value)
	}
	if err != nil {
		return "", err
	}
	secret := strings.TrimRight(string(content), "\r\n")
	switch {
	case secret == "" && value != "":
		return "", usagef("--%s: what it names is empty", flag)
	case !utf8.ValidString(secret):
		return "", usagef("--%s: the value is not UTF-8", flag)
	}
	return secret, nil
}

// headers reads the flags of headers. Their errors hold the name alone: a value is often a secret.
func (in *inputs) headers(flags []string) (headers []admin.Header, err error) {
	for _, given := range flags {
		name, value, found := strings.Cut(given, ":")
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		if !found || name == "" {
			return nil, usagef("--header: a colon is missing behind the name: write 'Name: value' (not shown, it may be a secret)")
		}
		if strings.HasPrefix(value, "@") {
			if value, err = in.secret("header", value); err != nil {
				return nil, err
			}
		}
		headers = append(headers, admin.Header{Name: name, Value: value})
	}
	return headers, nil
}

// document reads a file of options.
func (in *inputs) document(path string) (rule.Document, error) {
	read := in.readFile
	if path == "-" {
		read = func(flag, _ string) ([]byte, error) { return in.readStdin(flag) }
	}
	content, err := read("options", path)
	if err != nil {
		return rule.Document{}, err
	}
	return admin.ParseOptions(content)
}
