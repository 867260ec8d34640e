package rule

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// The plugin's columns hold this many characters.
const (
	MaxEvent = 50
	MaxURL   = 255
)

// spaces before a URL are cut off by the plugin's HTTP library too.
const spaces = " \t\r\n"

// ParseURL reads a URL that requests may be sent to: http or https with a host, MaxURL characters at most. Errors hold only its scheme.
func ParseURL(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	switch {
	case raw == "":
		return nil, errors.New("the URL is empty: write http:// or https:// and a host")
	case utf8.RuneCountInString(raw) > MaxURL:
		return nil, fmt.Errorf("the URL has more than %d characters", MaxURL)
	case !utf8.ValidString(raw) || strings.ContainsFunc(raw, unicode.IsControl):
		return nil, errors.New("the URL holds control characters: write it without")
	case err != nil: // not wrapped: it holds the URL
		return nil, errors.New("the URL does not parse: write http:// or https://, a host, and escape what is special")
	case u.Scheme == "":
		return nil, errors.New("the URL has no scheme: write http:// or https:// before it")
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, fmt.Errorf("the URL's scheme %q cannot take webhooks: write http:// or https://", u.Scheme)
	case u.Opaque != "" || u.Hostname() == "":
		return nil, errors.New("the URL has no host: write http://host/ or https://host/")
	case strings.ContainsFunc(u.Host, notInHost):
		return nil, errors.New("the URL's host holds characters that no host has")
	}
	if port := u.Port(); port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return nil, errors.New("the URL's port is not between 1 and 65535")
		}
	}
	return u, nil
}

// target returns scheme and host of a URL: all of it that may be shown.
func target(u *url.URL, raw string) string {
	shown := u.Scheme + "://" + strings.ToLower(u.Host)
	if strings.HasPrefix(raw, shown) {
		return raw[:len(shown)] // no memory of its own
	}
	return shown
}

// notInHost keeps out of a host what could not be told apart in a log or on a terminal.
func notInHost(r rune) bool {
	return !unicode.IsGraphic(r) || unicode.IsSpace(r) || strings.ContainsRune("\"'<>\\^`{|}@,;", r)
}

// hasCredentials reports whether a URL that ParseURL takes has a user or a password in it.
func hasCredentials(raw string) bool {
	_, rest, _ := strings.Cut(raw, "://")
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		rest = rest[:i]
	}
	return strings.Contains(rest, "@")
}

// URLSum returns what Option.URLSum has for a URL; spaces before it do not count.
func URLSum(raw string) [sha256.Size]byte {
	return sha256.Sum256([]byte(strings.TrimLeft(raw, spaces)))
}
