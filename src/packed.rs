//! Rows as they cross from JavaScript: packed, because what crosses value by value costs more than it
//! does in SQLite.
//!
//! All texts are one text. The numbers are: how many rows there are, how long the texts are in
//! JavaScript, whether (1) the rows are the last; then the values, row by row. A value is a number
//! itself; below 0 it is -1 less the length of a text, the next of all texts; NaN is null. `glue.js`
//! packs.

use crate::store::{Columns, SqlError};

/// A value of a row.
#[derive(Debug, Clone, Copy)]
enum Value {
    Null,
    Int(u64),
    /// Where a text begins and ends among all of them.
    Text(usize, usize),
}

/// Rows that have crossed at once.
#[derive(Debug)]
pub(crate) struct Rows {
    columns: usize,
    pub(crate) are_last: bool,
    values: Vec<Value>,
    texts: String,
}

impl Rows {
    /// # Errors
    /// When the numbers are not what `glue.js` makes.
    pub(crate) fn unpack(numbers: &[f64], texts: String) -> Result<Self, SqlError> {
        let [count, _, last, packed @ ..] = numbers else {
            return Err(SqlError("rows came without their number".to_owned()));
        };
        let mut values = Vec::with_capacity(packed.len());
        let mut begin = 0;
        for number in packed {
            values.push(if number.is_nan() {
                Value::Null
            } else if *number >= 0.0 {
                Value::Int(*number as u64)
            } else {
                let rest = texts.get(begin..).unwrap_or_default();
                let end = begin + utf8_len(rest, (-1.0 - number) as usize);
                Value::Text(std::mem::replace(&mut begin, end), end)
            });
        }
        Ok(Self {
            columns: values.len() / (*count as usize).max(1),
            are_last: *last > 0.0,
            values,
            texts,
        })
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Row<'_>> {
        let rows = self.values.chunks(self.columns.max(1));
        rows.map(|values| Row {
            values,
            texts: &self.texts,
        })
    }
}

/// How many bytes so many of JavaScript's units take at the beginning of a text.
fn utf8_len(text: &str, units: usize) -> usize {
    // Most texts are ASCII, where a unit is a byte.
    if text.get(..units).is_some_and(str::is_ascii) {
        return units;
    }
    let mut left = units;
    let end = text.char_indices().find(|(_, char)| {
        let is_over = left == 0;
        left = left.saturating_sub(char.len_utf16());
        is_over
    });
    end.map_or(text.len(), |(at, _)| at)
}

/// One of them.
#[derive(Debug)]
pub(crate) struct Row<'a> {
    values: &'a [Value],
    texts: &'a str,
}

impl Columns for Row<'_> {
    fn int(&self, column: usize) -> Option<u64> {
        match self.values.get(column) {
            Some(Value::Int(value)) => Some(*value),
            _ => None,
        }
    }

    fn str(&self, column: usize) -> Option<&str> {
        match self.values.get(column) {
            Some(Value::Text(begin, end)) => self.texts.get(*begin..*end),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `glue.js` makes of a text.
    fn length(text: &str) -> f64 {
        -1.0 - text.encode_utf16().count() as f64
    }

    #[test]
    fn values_of_every_kind_come_back_row_by_row() {
        let texts = ["plain", "", "zwölf", "\u{1f30a}\u{1f30a}", "日本"];
        let [a, b, c, d, e] = texts.map(length);
        let numbers = [3.0, 15.0, 0.0, a, 7.0, b, c, f64::NAN, d, e, 0.0, f64::NAN];
        let rows = Rows::unpack(&numbers, texts.concat()).unwrap();
        assert!(!rows.are_last);
        let rows: Vec<Row<'_>> = rows.iter().collect();
        assert_eq!(rows.len(), 3);
        let strs = |row: &Row<'_>| [0, 1, 2, 3].map(|at| row.text(at));
        let ints = |row: &Row<'_>| [0, 1, 2, 3].map(|at| row.int(at));
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(strs(&rows[0]), [some("plain"), None, some(""), None]);
        assert_eq!(ints(&rows[0]), [None, Some(7), None, None]);
        assert_eq!(
            strs(&rows[1]),
            [some("zwölf"), None, some("\u{1f30a}\u{1f30a}"), None]
        );
        assert_eq!(strs(&rows[2]), [some("日本"), None, None, None]);
        assert_eq!(ints(&rows[2]), [None, Some(0), None, None]);
    }

    #[test]
    fn no_rows_are_none_and_a_row_of_nulls_is_one() {
        let none = Rows::unpack(&[0.0, 0.0, 1.0], String::new()).unwrap();
        assert!(none.are_last);
        assert_eq!(none.iter().count(), 0);
        let nulls = Rows::unpack(&[1.0, 0.0, 1.0, f64::NAN], String::new()).unwrap();
        assert_eq!(nulls.iter().count(), 1);
    }

    #[test]
    fn numbers_that_do_not_fit_their_texts_panic_nothing() {
        let short = Rows::unpack(&[1.0, 9.0, 1.0, -10.0, -10.0], "ab".to_owned()).unwrap();
        assert_eq!(
            short.iter().next().and_then(|row| row.text(0)).as_deref(),
            Some("ab")
        );
        assert_eq!(
            short.iter().next().and_then(|row| row.text(1)).as_deref(),
            Some("")
        );
        assert!(Rows::unpack(&[], String::new()).is_err());
    }
}
