//! Reads an expression into postfix order: operands, then what is done with them.
//!
//! ```text
//! or  and  not  < <= > >= == !=  + -  * /  - (sign)  ^  x[1:3] x.z
//! ```
//! from loosest to tightest, as in Python (`^` is its `**`: -2^2 is -4). Comparisons can't be
//! chained. Postfix order needs no tree: a long sum is a loop for all who read it, and only
//! parentheses, signs and calls nest, to a bounded depth.

use super::problem::{Problem, shown};

/// Longest expression, in bytes.
pub(crate) const LONGEST: usize = 4096;
/// Deepest nesting of parentheses, signs and calls.
const DEEPEST: usize = 64;

/// An expression in postfix order.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Code {
    pub items: Vec<Placed>,
    /// The place of its beginning in the file.
    pub at: usize,
    /// As the file has it.
    pub text: String,
}

/// A step of the evaluation and its place in the file.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Placed {
    pub at: usize,
    pub item: Item,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Item {
    Number(f64),
    /// A name in quotes: of a body, a joint ...
    Text(String),
    /// A quantity or a term.
    Name(String),
    /// A function of as many operands as it has arguments; some are given by name.
    Call {
        function: String,
        arguments: Vec<Option<String>>,
    },
    /// An operator of one or two operands: `not`, `neg`, `+` ...
    Operator(&'static str),
    /// Rows `first..last` of an operand, or one row.
    Rows {
        first: Option<i64>,
        last: Option<i64>,
        one: bool,
    },
    /// Columns of an operand by name.
    Columns(Vec<String>),
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Number(f64),
    Text(String),
    Word(String),
    Sign(&'static str),
    End,
}

const SIGNS: [&str; 22] = [
    "<=", ">=", "==", "!=", "**", "&&", "||", "<", ">", "+", "-", "*", "/", "^", "(", ")", "[",
    "]", ",", ":", ".", "=",
];

/// Reads the expression `text`, whose bytes begin at `base` in the file. If not `exact`, the
/// text is not in the file as it stands, and all problems are placed at `base`.
pub(crate) fn parse(text: &str, base: usize, exact: bool) -> Result<Code, Problem> {
    let place = |at: usize| if exact { base + at } else { base };
    if text.len() > LONGEST {
        let long = format!("an expression of {} bytes, expected at most {LONGEST}", text.len());
        return Err(Problem::new(base, format!("{long}; give parts of it names in [terms]")));
    }
    let tokens = tokens(text).map_err(|p| Problem { at: place(p.at), ..p })?;
    let mut parser = Parser { tokens, next: 0, depth: 0, items: Vec::new() };
    let read = parser.expression(0).and_then(|()| match parser.peek() {
        (Token::End, _) => Ok(()),
        (token, at) => {
            Err(Problem::new(at, format!("{} where the expression should end", name(&token))))
        }
    });
    read.map_err(|p| Problem { at: place(p.at), ..p })?;
    let placed = |item: Placed| Placed { at: place(item.at), ..item };
    let items = parser.items.into_iter().map(placed).collect();
    Ok(Code { items, at: base, text: text.to_owned() })
}

fn name(token: &Token) -> String {
    match token {
        Token::Number(x) => format!("the number {x}"),
        Token::Text(text) => format!("the text '{}'", shown(text)),
        Token::Word(word) => format!("'{}'", shown(word)),
        Token::Sign(sign) => format!("'{sign}'"),
        Token::End => "the end".into(),
    }
}

fn tokens(text: &str) -> Result<Vec<(Token, usize)>, Problem> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(c) = text[at..].chars().next() {
        let rest = &text[at..];
        let start = at;
        let length_of = |fine: fn(char) -> bool| rest.find(|c| !fine(c)).unwrap_or(rest.len());
        let token = if c.is_whitespace() {
            at += c.len_utf8();
            continue;
        } else if c.is_ascii_digit()
            || (c == '.' && rest[1..].starts_with(|c: char| c.is_ascii_digit()))
        {
            let length = number_length(rest);
            at += length;
            match rest[..length].parse::<f64>() {
                Ok(x) if x.is_finite() => Token::Number(x),
                _ => {
                    return Err(Problem::new(
                        start,
                        format!("'{}' is no number of f64", &rest[..length]),
                    ));
                }
            }
        } else if c.is_ascii_alphabetic() || c == '_' {
            let length = length_of(|c| c.is_ascii_alphanumeric() || c == '_');
            at += length;
            Token::Word(rest[..length].into())
        } else if c == '\'' || c == '"' {
            let Some(length) = rest[1..].find(c) else {
                return Err(Problem::new(
                    start,
                    "a text that does not end, expected another quote",
                ));
            };
            at += length + 2;
            let inner = &rest[1..=length];
            if inner.contains(char::is_control) {
                return Err(Problem::new(start, "a control character in a text"));
            }
            Token::Text(inner.into())
        } else if let Some(sign) = SIGNS.iter().find(|sign| rest.starts_with(**sign)) {
            let meant = match *sign {
                "**" => Some("^"),
                "&&" => Some("and"),
                "||" => Some("or"),
                _ => None,
            };
            if let Some(meant) = meant {
                return Err(Problem::new(
                    start,
                    format!("unknown operator '{sign}'; did you mean '{meant}'?"),
                ));
            }
            at += sign.len();
            Token::Sign(sign)
        } else {
            return Err(Problem::new(start, format!("unknown character '{}'", c.escape_debug())));
        };
        tokens.push((token, start));
    }
    tokens.push((Token::End, text.len()));
    Ok(tokens)
}

/// The length of a number: digits, a point, digits, an exponent.
fn number_length(text: &str) -> usize {
    let bytes = text.as_bytes();
    let digits = |mut at: usize| {
        while bytes.get(at).is_some_and(u8::is_ascii_digit) {
            at += 1;
        }
        at
    };
    let mut at = digits(0);
    if bytes.get(at) == Some(&b'.') {
        at = digits(at + 1);
    }
    if matches!(bytes.get(at), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(at + 1), Some(b'+' | b'-')));
        let end = digits(at + 1 + sign);
        if end > at + 1 + sign {
            at = end;
        }
    }
    at
}

struct Parser {
    tokens: Vec<(Token, usize)>,
    next: usize,
    depth: usize,
    items: Vec<Placed>,
}

/// How tightly a sign binds: tighter than comparisons and sums, looser than `^`.
const SIGN_BINDS: u8 = 6;
/// `not` binds looser than comparisons.
const NOT_BINDS: u8 = 3;

/// An operator between two operands, and how tightly it binds.
fn binary(token: &Token) -> Option<(&'static str, u8)> {
    Some(match token {
        Token::Word(word) if word == "or" => ("or", 1),
        Token::Word(word) if word == "and" => ("and", 2),
        Token::Sign(sign @ ("<" | "<=" | ">" | ">=" | "==" | "!=")) => (sign, NOT_BINDS + 1),
        Token::Sign(sign @ ("+" | "-")) => (sign, NOT_BINDS + 2),
        Token::Sign(sign @ ("*" | "/")) => (sign, SIGN_BINDS),
        Token::Sign("^") => ("^", SIGN_BINDS + 1),
        _ => return None,
    })
}

impl Parser {
    fn peek(&self) -> (Token, usize) {
        self.tokens[self.next].clone()
    }

    fn take(&mut self) -> (Token, usize) {
        let token = self.peek();
        self.next = (self.next + 1).min(self.tokens.len() - 1);
        token
    }

    fn takes(&mut self, sign: &str) -> bool {
        let found = matches!(self.peek().0, Token::Sign(found) if found == sign);
        if found {
            self.take();
        }
        found
    }

    fn expect(&mut self, sign: &str) -> Result<(), Problem> {
        let (token, at) = self.peek();
        if self.takes(sign) {
            return Ok(());
        }
        Err(Problem::new(at, format!("{}, expected '{sign}'", name(&token))))
    }

    fn push(&mut self, at: usize, item: Item) {
        self.items.push(Placed { at, item });
    }

    /// Reads operators that bind at least as tightly as `least`, and their operands.
    fn expression(&mut self, least: u8) -> Result<(), Problem> {
        self.depth += 1;
        if self.depth > DEEPEST {
            let at = self.peek().1;
            return Err(Problem::new(
                at,
                format!("nested more than {DEEPEST} deep; give a part of it a name in [terms]"),
            ));
        }
        self.operand()?;
        let mut compared = false;
        while let (Some((operator, binds)), at) = (binary(&self.peek().0), self.peek().1) {
            if binds < least {
                break;
            }
            self.take();
            let comparison = binds == NOT_BINDS + 1;
            if comparison && compared {
                return Err(Problem::new(at, "a chain of comparisons; write `a < b and b < c`"));
            }
            compared = comparison || (compared && binds > NOT_BINDS);
            // `^` is grouped from the right, and its right side may have a sign.
            self.expression(if operator == "^" { SIGN_BINDS + 1 } else { binds + 1 })?;
            self.push(at, Item::Operator(operator));
        }
        self.depth -= 1;
        Ok(())
    }

    fn operand(&mut self) -> Result<(), Problem> {
        let (token, at) = self.take();
        match token {
            Token::Number(x) => self.push(at, Item::Number(x)),
            Token::Text(text) => self.push(at, Item::Text(text)),
            Token::Sign("-") => {
                self.expression(SIGN_BINDS + 1)?;
                self.push(at, Item::Operator("neg"));
                return Ok(());
            }
            Token::Sign("+") => return self.expression(SIGN_BINDS + 1),
            Token::Sign("(") => {
                self.expression(0)?;
                self.expect(")")?;
            }
            Token::Word(word) if word == "not" => {
                self.expression(NOT_BINDS)?;
                self.push(at, Item::Operator("not"));
                return Ok(());
            }
            Token::Word(word) if word != "and" && word != "or" => {
                if self.takes("(") {
                    self.call(at, word)?;
                } else {
                    self.push(at, Item::Name(word));
                }
            }
            token => {
                let expected = "expected a number, a name, '(' or a sign";
                return Err(Problem::new(at, format!("{}, {expected}", name(&token))));
            }
        }
        self.parts()
    }

    /// The arguments of a function, after its parenthesis.
    fn call(&mut self, at: usize, function: String) -> Result<(), Problem> {
        let mut arguments = Vec::new();
        if !self.takes(")") {
            loop {
                let keyword = match (&self.peek().0, self.tokens.get(self.next + 1)) {
                    (Token::Word(word), Some((Token::Sign("="), _))) => Some(word.clone()),
                    _ => None,
                };
                if keyword.is_some() {
                    self.next += 2;
                } else if let Some(Some(_)) = arguments.last() {
                    return Err(Problem::new(
                        self.peek().1,
                        "an argument without a name after one with a name",
                    ));
                }
                self.expression(0)?;
                arguments.push(keyword);
                if !self.takes(",") {
                    break;
                }
            }
            self.expect(")")?;
        }
        self.push(at, Item::Call { function, arguments });
        Ok(())
    }

    /// `[1]`, `[1:]`, `.z`, `.[x, z]` after an operand.
    fn parts(&mut self) -> Result<(), Problem> {
        loop {
            let at = self.peek().1;
            if self.takes("[") {
                let first = self.integer()?;
                let one = !self.takes(":");
                let last = if one { None } else { self.integer()? };
                if one && first.is_none() {
                    return Err(Problem::new(at, "no index, expected such as [2] or [1:3]"));
                }
                self.expect("]")?;
                self.push(at, Item::Rows { first, last, one });
            } else if self.takes(".") {
                let mut columns = Vec::new();
                let several = self.takes("[");
                loop {
                    match self.take() {
                        (Token::Word(word), _) => columns.push(word),
                        (token, at) => {
                            return Err(Problem::new(
                                at,
                                format!("{}, expected a column such as x or zz", name(&token)),
                            ));
                        }
                    }
                    if !(several && self.takes(",")) {
                        break;
                    }
                }
                if several {
                    self.expect("]")?;
                }
                self.push(at, Item::Columns(columns));
            } else {
                return Ok(());
            }
        }
    }

    fn integer(&mut self) -> Result<Option<i64>, Problem> {
        let negative = self.takes("-");
        match self.peek() {
            (Token::Number(x), _) if x.fract() == 0.0 && x < 1e9 => {
                self.take();
                Ok(Some(if negative { -(x as i64) } else { x as i64 }))
            }
            (Token::Sign(":" | "]"), _) if !negative => Ok(None),
            (token, at) => {
                Err(Problem::new(at, format!("{}, expected a whole number", name(&token))))
            }
        }
    }
}
