//! Compiles parts of values: rows `[1:3]` and columns `.x`.

use super::compile::{Compiler, Place, Shape, Value, check_length};
use super::fields;
use super::problem::{Problem, shown};
use super::program::{Operation, OperationKind};

impl Compiler<'_> {
    pub fn rows(
        &mut self,
        of: Value,
        (first, last, one): (Option<i64>, Option<i64>, bool),
        at: usize,
        program: &mut Vec<Operation>,
    ) -> Result<Value, Problem> {
        let Shape { rows, columns, scalar } = of.shape;
        let bound = |i: i64| if i < 0 { i + rows as i64 } else { i };
        let written = |i: Option<i64>| i.map_or(String::new(), |i| i.to_string());
        let range = match one {
            true => format!("[{}]", written(first)),
            false => format!("[{}:{}]", written(first), written(last)),
        };
        let first = first.map_or(0, bound);
        let last = if one { first + 1 } else { last.map_or(rows as i64, bound) };
        if scalar || first < 0 || last > rows as i64 || first >= last {
            let of = if scalar { "a scalar".into() } else { format!("{rows} rows") };
            return Err(Problem::new(at, format!("{range} of {of}")));
        }
        let numbers = first as usize * columns..last as usize * columns;
        let shape = Shape { rows: (last - first) as usize, columns, scalar: one && columns == 1 };
        self.pick(of, numbers.map(|i| i as u32).collect(), shape, at, program)
    }

    pub fn columns(
        &mut self,
        of: Value,
        names: &[String],
        at: usize,
        program: &mut Vec<Operation>,
    ) -> Result<Value, Problem> {
        let Shape { rows, columns, scalar } = match of.shape {
            // A vector of three numbers is a position, and so on.
            Shape { rows: rows @ (3 | 4 | 9), columns: 1, .. } => Shape::vector(1, rows),
            shape => shape,
        };
        let mut chosen = Vec::new();
        for name in names {
            let column = fields::column(columns, name).filter(|_| !scalar);
            chosen.push(column.ok_or_else(|| {
                let rows = "ranges have low high, positions x y z, quaternions w x y z, matrices xx xy ... zz";
                let what = format!("rows of {columns} numbers have no column '{}'", shown(name));
                Problem::new(at, format!("{what}; {rows}"))
            })?);
        }
        let width = chosen.len();
        check_length(Shape::vector(rows, width), at)?;
        let indices = (0..rows)
            .flat_map(|row| chosen.iter().map(move |column| (row * columns + column) as u32));
        let shape = Shape { rows, columns: width, scalar: rows == 1 && width == 1 };
        let indices = indices.collect();
        self.pick(of, indices, shape, at, program)
    }

    /// Some numbers of a value.
    fn pick(
        &mut self,
        of: Value,
        indices: Vec<u32>,
        shape: Shape,
        at: usize,
        program: &mut Vec<Operation>,
    ) -> Result<Value, Problem> {
        let place = match &of.place {
            Place::Constant(all) => {
                Place::Constant(indices.iter().map(|i| all[*i as usize]).collect())
            }
            Place::Data(read, all) => {
                Place::Data(*read, indices.iter().map(|i| all[*i as usize]).collect())
            }
            Place::Notes(start) => {
                let follow = indices.windows(2).all(|pair| pair[1] == pair[0] + 1);
                if follow {
                    Place::Notes(start + indices[0] as usize)
                } else {
                    let indices = indices.iter().map(|i| i + *start as u32).collect();
                    return self.emit(shape, OperationKind::Pick { indices }, at, program);
                }
            }
            Place::Text(_) => return Err(Problem::new(at, "a text has no parts")),
        };
        Ok(Value { shape, place, at })
    }
}
