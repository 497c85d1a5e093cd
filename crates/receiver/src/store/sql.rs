//! A statement: fixed text with bound values.
//!
//! Text is `&'static str`, so nothing that a request says can become part of it. Values are always bound.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    Sqlite,
    Postgres,
}

/// A value of one of the four kinds. The kind of a missing value is known too: Postgres asks for it.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Int(Option<i64>),
    Real(Option<f64>),
    Text(Option<String>),
    Bytes(Option<Vec<u8>>),
}

impl From<i64> for Value {
    fn from(n: i64) -> Self {
        Self::Int(Some(n))
    }
}

impl From<f64> for Value {
    fn from(n: f64) -> Self {
        Self::Real(Some(n))
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(Some(text.to_owned()))
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(Some(text))
    }
}

impl From<Vec<u8>> for Value {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(Some(bytes))
    }
}

/// Built from left to right.
#[derive(Clone, Debug)]
pub struct Sql {
    dialect: Dialect,
    text: String,
    values: Vec<Value>,
}

impl Sql {
    pub fn new(dialect: Dialect, text: &'static str) -> Self {
        Self { dialect, text: text.to_owned(), values: vec![] }
    }

    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    pub fn push(&mut self, text: &'static str) -> &mut Self {
        self.text.push_str(text);
        self
    }

    pub fn bind(&mut self, value: impl Into<Value>) -> &mut Self {
        self.values.push(value.into());
        self.text.push(match self.dialect {
            Dialect::Sqlite => '?',
            Dialect::Postgres => '$',
        });
        self.text.push_str(&self.values.len().to_string());
        self
    }

    /// Names or other texts with `, ` between them.
    pub fn list(&mut self, texts: impl IntoIterator<Item = &'static str>) -> &mut Self {
        for (n, text) in texts.into_iter().enumerate() {
            self.push(if n > 0 { ", " } else { "" }).push(text);
        }
        self
    }

    /// Bound values with `, ` between them.
    pub fn values<V: Into<Value>>(&mut self, values: impl IntoIterator<Item = V>) -> &mut Self {
        for (n, value) in values.into_iter().enumerate() {
            self.push(if n > 0 { ", " } else { "" }).bind(value);
        }
        self
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    pub fn bound(&self) -> &[Value] {
        &self.values
    }

    pub(super) fn into_parts(self) -> (String, Vec<Value>) {
        (self.text, self.values)
    }
}

/// A row of an answer, by position.
#[derive(Clone, Debug, PartialEq)]
pub struct Row(pub(super) Vec<Value>);

impl Row {
    pub fn values(&self) -> &[Value] {
        &self.0
    }

    pub fn int(&self, at: usize) -> Option<i64> {
        match self.0.get(at)? {
            Value::Int(n) => *n,
            _ => None,
        }
    }

    pub fn real(&self, at: usize) -> Option<f64> {
        match self.0.get(at)? {
            Value::Real(n) => *n,
            // SQLite keeps the kind of the value, not of the column.
            #[allow(clippy::cast_precision_loss)]
            Value::Int(n) => n.map(|n| n as f64),
            _ => None,
        }
    }

    pub fn text(&self, at: usize) -> Option<&str> {
        match self.0.get(at)? {
            Value::Text(text) => text.as_deref(),
            _ => None,
        }
    }

    pub fn bytes(&self, at: usize) -> Option<&[u8]> {
        match self.0.get(at)? {
            Value::Bytes(bytes) => bytes.as_deref(),
            _ => None,
        }
    }

    pub fn into_bytes(mut self, at: usize) -> Option<Vec<u8>> {
        match self.0.get_mut(at)? {
            Value::Bytes(bytes) => bytes.take(),
            _ => None,
        }
    }
}
