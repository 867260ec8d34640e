# Definitions that stand in for gojq's own where those are not linear in their input, or not bounded.
# What a definition uses must stand before it: after "def min", min is ours. _gojq_NAME is gojq's own.
# Functions in Go: _measured and the like return their input, or an error where it is too large.

def _measured: _measured(262144);
def _short: _measured(2049); # text of 16,384 bytes
def _gojq_tostring: tostring; def tostring: _measured | _gojq_tostring | _made;
def _gojq_tojson: tojson; def tojson: _measured | _gojq_tojson | _made;
def _gojq__tohtml: _tohtml; def _tohtml: _measured | _gojq__tohtml | _made;
def _gojq__touri: _touri; def _touri: _measured | _gojq__touri | _made;
def _gojq__tourid: _tourid; def _tourid: _measured | _gojq__tourid;
def _gojq__tocsv: _tocsv; def _tocsv: _measured | _gojq__tocsv | _made;
def _gojq__totsv: _totsv; def _totsv: _measured | _gojq__totsv | _made;
def _gojq__tosh: _tosh; def _tosh: _measured | _gojq__tosh | _made;
def _gojq__tobase64: _tobase64; def _tobase64: _measured | _gojq__tobase64 | _made;
def _gojq__tobase64d: _tobase64d; def _tobase64d: _measured | _gojq__tobase64d;
def _gojq_format($f): format($f); def format($f): _measured | _gojq_format($f) | _made;
def _formats: # which @name may be
  format(""), tostring, tojson, _tohtml, _touri, _tourid, _tocsv, _totsv, _tosh, _tobase64, _tobase64d;
def _gojq_explode: explode; def explode: _measured | _gojq_explode | _made;
def _gojq_fromjson: fromjson; def fromjson: _measured | _gojq_fromjson | _measured;
def _gojq_tonumber: tonumber; def tonumber: _short | _gojq_tonumber;

def _at: # for the E of .[E], and for steps of a path: room is made for a number, a list is searched for
  if type == "number" then
    if . > 262144 then _fail("the array index \(.) is above 262144: for a key, write it as text") end
  elif type == "array" then . as $list |
    try _measured(64) catch _fail("a list of \($list | length) values is too long for an index: write indices(…)") end;

# What operators become: see operators. A |= that deletes writes into all that it deletes from.
def _minus(l; r): r as $r | l | if type == "array" and ($r | type) == "array" then
    ([., $r] | _measured) as $_ | _difference($r) else _subtract(.; $r) end;
def _repeatable($n):
  if type == "string" and ($n | type) == "number" and _multiply($n; utf8bytelength) > 1048576 then
    _fail("a text of \(utf8bytelength) bytes is repeated \($n) times, to more than 1048576 bytes: " +
      "is it meant to be a number?") end;
def _times(l; r): r as $r | l | . as $l | ($r | _repeatable($l)) as $r | _repeatable($r) |
  _comparable($r) | _multiply(.; $r) | _made;
def _over(l; r): r as $r | l | _measured | _divide(.; $r) | _made;
def _private: _measured | _copied;
def _update(p; f): _private | _modify(p; f | _private);
def _update_add(p; f): f as $v | _modify(p; . + $v);
def _update_minus(p; f): f as $v | _modify(p; . - $v);
def _update_times(p; f): f as $v | _modify(p; . * $v);
def _update_divide(p; f): f as $v | _modify(p; . / $v);

def _gojq_min: min; def min: _measured | _gojq_min;
def _gojq_max: max; def max: _measured | _gojq_max;
def _gojq_sort: sort; def sort: _measured | _gojq_sort;
def _gojq_unique: unique; def unique: _measured | _gojq_unique;
def min_by(f): _min_by(map([f]) | _measured);
def max_by(f): _max_by(map([f]) | _measured);
def sort_by(f): _sort_by(map([f]) | _measured);
def group_by(f): _group_by(map([f]) | _measured);
def unique_by(f): _unique_by(map([f]) | _measured);
def _gojq_bsearch($x): bsearch($x); def bsearch($x): _gojq_bsearch($x | _measured);
def IN(s): any(s == .; .);
def IN(src; s): any(src == s; .);

def _gojq_add: add; def add: _measured | _gojq_add; def add(f): [f] | add;
def _gojq_join($s): join($s); def join($s): _paired($s) | _gojq_join($s) | _made;
def _gojq_flatten: flatten; def flatten: _measured | _gojq_flatten;
def _gojq_flatten($d): flatten($d); def flatten($d): _measured | _gojq_flatten($d);
def _gojq_transpose: transpose; def transpose:
  ([.[]? | arrays | length] | length * (max // 0)) as $cells |
  _measured(262144 - $cells) | _gojq_transpose;

def _gojq_contains($x): contains($x); def contains($x): _paired($x) | _gojq_contains($x);
def inside($x): . as $v | $x | contains($v);
def _gojq_index($x): index($x); def index($x): _paired($x) | _gojq_index($x);
def _gojq_rindex($x): rindex($x); def rindex($x): _paired($x) | _gojq_rindex($x);
def _gojq_indices($x): indices($x); def indices($x): _paired($x) | _gojq_indices($x);

def nth($n): .[$n];
def nth($n; g): if $n >= 0 then first(skip($n; g)) else error("nth doesn't support negative index") end;
def _path: _measured(10000) | if type == "array" then map(_at) end; # walking it takes stack
def _gojq_getpath(p): getpath(p); def getpath(p): _gojq_getpath(p | _path);
def _gojq_setpath(p; v): setpath(p; v); def setpath(p; v): _gojq_setpath(p | _path; v);
def _gojq_delpaths($p): delpaths($p); def delpaths($p): # each slice goes over all of a list
  _private | _paired([$p[]?[]? | objects]) | _gojq_delpaths($p | _measured);
def del(f): delpaths([path(f)]);
def map_values(f):
  if type == "object" then [keys[] as $k | {($k): first(.[$k] | f)}] | add // {}
  else [.[] | first(f)] end;
def walk(f):
  def _walk: if type == "array" then map(_walk) elif type == "object" then map_values(_walk) end | f;
  _walk;
def INDEX(stream; f): reduce stream as $row ({}; .[$row | f | tostring] = $row);
def INDEX(f): INDEX(.[]; f);
def JOIN($idx; f): [.[] | [., $idx[f]]];
def JOIN($idx; stream; f): stream | [., $idx[f]];
def JOIN($idx; stream; f; g): stream | [., $idx[f]] | g;

def match($re; $flags): _find_all($re; $flags; false)[];
def match($re): if $re | type == "array" then match($re[0]; $re[1]) else match($re; null) end;
def test($re; $flags): _find_all($re; $flags; true);
def test($re): if $re | type == "array" then test($re[0]; $re[1]) else test($re; null) end;
def _captures_of:
  reduce (.captures[] | select(.name != null)) as {$name, $string} ({}; .[$name] = $string);
def capture($re; $flags): match($re; $flags) | _captures_of;
def capture($re): if $re | type == "array" then capture($re[0]; $re[1]) else capture($re; null) end;
def scan($re; $flags):
  match($re; $flags + "g") | if .captures == [] then .string else [.captures[].string] end;
def scan($re): scan($re; null);
def splits($re; $flags):
  .[foreach (match($re; $flags + "g"), null) as {$offset, $length}
      (null; {start: .next, end: $offset, next: $offset + $length})];
def splits($re): splits($re; null);
def _gojq_split($s): split($s); def split($s): _measured | _gojq_split($s) | _made;
def split($re; $flags): [splits($re; $flags)];
def sub($re; str; $flags):
  reduce match($re; $flags) as $match ({s: ., r: []};
    reduce ($match | _captures_of | str) as $s
      (.i = 0; .r[.i] += .s[.next:$match.offset] + $s | .i += 1) |
    .next = $match.offset + $match.length) | .r[] + .s[.next:] // .s;
def sub($re; str): sub($re; str; null);
def gsub($re; str; $flags): sub($re; str; $flags + "g");
def gsub($re; str): gsub($re; str; "");

def _gojq_strftime(f): strftime(f); def strftime(f): _gojq_strftime(f | _short) | _made;
def _zoneless: # flags may stand between the two characters
  if type == "string" and test("(^|[^%])(%%)*%[-_^#:EO0-9]*Z") then
    _fail("strptime with %Z depends on the zone of the process: write %z") end;
def _gojq_strptime(f): strptime(f); def strptime(f): _gojq_strptime(f | _short | _zoneless);
def _order: if fabs > 1000000 then error("the order \(.) of a Bessel function is above 1000000") end;
def _gojq_jn($n; $x): jn($n; $x); def jn($n; $x): _gojq_jn($n | _order; $x);
def _gojq_yn($n; $x): yn($n; $x); def yn($n; $x): _gojq_yn($n | _order; $x);
