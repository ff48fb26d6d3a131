//! A graph as an ONNX model: opset 17, IR version 8, with a free batch axis.
//!
//! Messages and tags are those of `onnx.proto3`; only the fields that are needed are written.

use policy::{Graph, Op};
use prost::Message;

/// Operators as of this version: the newest that most runtimes have.
const OPSET: i64 = 17;
/// Version of the file format that belongs to it.
const IR_VERSION: i64 = 8;
/// `TensorProto.DataType`.
const FLOAT: i32 = 1;
const INT64: i32 = 7;

#[derive(Clone, PartialEq, Message)]
struct Model {
    #[prost(int64, tag = "1")]
    ir_version: i64,
    #[prost(string, tag = "2")]
    producer_name: String,
    #[prost(string, tag = "3")]
    producer_version: String,
    #[prost(message, optional, tag = "7")]
    graph: Option<GraphProto>,
    #[prost(message, repeated, tag = "8")]
    opset_import: Vec<OperatorSet>,
    #[prost(message, repeated, tag = "14")]
    metadata_props: Vec<Entry>,
}

#[derive(Clone, PartialEq, Message)]
struct OperatorSet {
    #[prost(string, tag = "1")]
    domain: String,
    #[prost(int64, tag = "2")]
    version: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Entry {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, PartialEq, Message)]
struct GraphProto {
    #[prost(message, repeated, tag = "1")]
    node: Vec<Node>,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(message, repeated, tag = "5")]
    initializer: Vec<TensorProto>,
    #[prost(message, repeated, tag = "11")]
    input: Vec<ValueInfo>,
    #[prost(message, repeated, tag = "12")]
    output: Vec<ValueInfo>,
}

#[derive(Clone, PartialEq, Message)]
struct Node {
    #[prost(string, repeated, tag = "1")]
    input: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    output: Vec<String>,
    #[prost(string, tag = "3")]
    name: String,
    #[prost(string, tag = "4")]
    op_type: String,
    #[prost(message, repeated, tag = "5")]
    attribute: Vec<Attribute>,
}

#[derive(Clone, PartialEq, Message)]
struct Attribute {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(int64, tag = "3")]
    i: i64,
    /// 2: an integer.
    #[prost(int32, tag = "20")]
    kind: i32,
}

#[derive(Clone, PartialEq, Message)]
struct TensorProto {
    #[prost(int64, repeated, tag = "1")]
    dims: Vec<i64>,
    #[prost(int32, tag = "2")]
    data_type: i32,
    #[prost(string, tag = "8")]
    name: String,
    #[prost(bytes = "vec", tag = "9")]
    raw_data: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct ValueInfo {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    kind: Option<Type>,
}

#[derive(Clone, PartialEq, Message)]
struct Type {
    #[prost(message, optional, tag = "1")]
    tensor: Option<TensorType>,
}

#[derive(Clone, PartialEq, Message)]
struct TensorType {
    #[prost(int32, tag = "1")]
    element: i32,
    #[prost(message, optional, tag = "2")]
    shape: Option<Shape>,
}

#[derive(Clone, PartialEq, Message)]
struct Shape {
    #[prost(message, repeated, tag = "1")]
    dim: Vec<Dimension>,
}

#[derive(Clone, PartialEq, Message)]
struct Dimension {
    #[prost(oneof = "Size", tags = "1, 2")]
    size: Option<Size>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Size {
    #[prost(int64, tag = "1")]
    Fixed(i64),
    #[prost(string, tag = "2")]
    Free(String),
}

/// The bytes of an ONNX model of a valid graph. Inputs of length 0 are left out; the others are
/// `obs`, `z` and `xi`, (batch, n) each, the output is `actions`.
pub fn model(graph: &Graph, metadata: &[(String, String)]) -> Vec<u8> {
    let lengths = graph.lengths().expect("a valid graph");
    let mut writer = Writer::default();
    let mut names: Vec<String> = INPUTS.map(String::from).into();
    let batched = of_each_row(graph);
    for (i, op) in graph.ops.iter().enumerate() {
        let last = i + 1 == graph.ops.len();
        let name = if last { "actions".into() } else { format!("v{i}") };
        let name = writer.write(graph, op, &names, (&lengths, &batched), name);
        names.push(name);
    }
    let given = INPUTS.iter().zip(&lengths).filter(|(_, n)| **n > 0);
    let proto = GraphProto {
        node: writer.nodes,
        name: "policy".into(),
        initializer: writer.tensors,
        input: given.map(|(name, n)| value(name, *n)).collect(),
        output: vec![value("actions", lengths[lengths.len() - 1])],
    };
    let entry = |(key, value): &(String, String)| Entry { key: key.clone(), value: value.clone() };
    let model = Model {
        ir_version: IR_VERSION,
        producer_name: "smfp".into(),
        producer_version: env!("CARGO_PKG_VERSION").into(),
        graph: Some(proto),
        opset_import: vec![OperatorSet { domain: String::new(), version: OPSET }],
        metadata_props: metadata.iter().map(entry).collect(),
    };
    model.encode_to_vec()
}

/// Names of the inputs.
const INPUTS: [&str; 3] = ["obs", "z", "xi"];

/// A matrix of floats with a free batch axis.
fn value(name: &str, n: usize) -> ValueInfo {
    let dim = [Size::Free("batch".into()), Size::Fixed(n as i64)];
    let dim = dim.map(|size| Dimension { size: Some(size) }).into();
    let tensor = TensorType { element: FLOAT, shape: Some(Shape { dim }) };
    ValueInfo { name: name.into(), kind: Some(Type { tensor: Some(tensor) }) }
}

/// Whether each value differs between the rows of a batch. One that is made of constants only is one
/// row, which the operators repeat as needed, except for Concat.
fn of_each_row(graph: &Graph) -> Vec<bool> {
    let mut batched = vec![true; 3];
    for op in &graph.ops {
        let of = |v: u32| batched[v as usize];
        batched.push(match *op {
            Op::Constant(_) => false,
            Op::Affine(x, ..) | Op::LayerNorm(x, ..) | Op::Slice(x, ..) | Op::Clip(x, ..) => of(x),
            Op::Exp(x) | Op::Tanh(x) | Op::Relu(x) | Op::Mish(x) => of(x),
            Op::Concat(a, b) | Op::Add(a, b) | Op::Sub(a, b) | Op::Mul(a, b) => of(a) || of(b),
        });
    }
    batched
}

/// Nodes and tensors so far.
#[derive(Default)]
struct Writer {
    nodes: Vec<Node>,
    tensors: Vec<TensorProto>,
}

impl Writer {
    /// Writes an operation and returns the name of its result.
    fn write(
        &mut self,
        graph: &Graph,
        op: &Op,
        names: &[String],
        (lengths, batched): (&[usize], &[bool]),
        out: String,
    ) -> String {
        let value = |v: u32| names[v as usize].clone();
        let length = |v: u32| lengths[v as usize] as i64;
        let numbers = |t: u32| &graph.tensors[t as usize][..];
        match *op {
            // (Not the tensor that a layer has as its bias: this is a row.)
            Op::Constant(t) => {
                let raw_data = numbers(t).iter().flat_map(|x| x.to_le_bytes()).collect();
                self.initializer(&out, &[1, numbers(t).len() as i64], FLOAT, raw_data);
            }
            Op::Affine(x, w, b) => {
                let outputs = numbers(b).len() as i64;
                let weights = self.tensor(w, &[length(x), outputs], numbers(w));
                let bias = self.tensor(b, &[outputs], numbers(b));
                self.node("Gemm", vec![value(x), weights, bias], &out);
            }
            Op::Concat(a, b) => {
                let rows = match [a, b].map(|v| batched[v as usize]) {
                    [true, false] => [value(a), self.repeated(b, names, lengths, &value(a), &out)],
                    [false, true] => [self.repeated(a, names, lengths, &value(b), &out), value(b)],
                    _ => [value(a), value(b)],
                };
                self.node("Concat", rows.into(), &out);
                self.attribute("axis", 1);
            }
            Op::Slice(x, start, n) => {
                let end = i64::from(start) + i64::from(n);
                let range = [("start", start.into()), ("end", end), ("axis", 1)];
                let range = range.map(|(name, i)| self.integer(&format!("{out}.{name}"), i));
                self.node("Slice", [vec![value(x)], range.into()].concat(), &out);
            }
            Op::Add(a, b) => self.node("Add", vec![value(a), value(b)], &out),
            Op::Sub(a, b) => self.node("Sub", vec![value(a), value(b)], &out),
            Op::Mul(a, b) => self.node("Mul", vec![value(a), value(b)], &out),
            Op::Clip(x, low, high) => {
                let bounds = [("low", low), ("high", high)];
                let bounds = bounds.map(|(name, x)| self.float(&format!("{out}.{name}"), x));
                self.node("Clip", [vec![value(x)], bounds.into()].concat(), &out);
            }
            Op::Exp(x) => self.node("Exp", vec![value(x)], &out),
            Op::Tanh(x) => self.node("Tanh", vec![value(x)], &out),
            Op::Relu(x) => self.node("Relu", vec![value(x)], &out),
            Op::Mish(x) => {
                // The operator Mish came with opset 18.
                let [softplus, tanh] = ["softplus", "tanh"].map(|name| format!("{out}.{name}"));
                self.node("Softplus", vec![value(x)], &softplus);
                self.node("Tanh", vec![softplus], &tanh);
                self.node("Mul", vec![value(x), tanh], &out);
            }
            // (Over the last axis, with the epsilon of 1e-5 that the operator has by default.)
            Op::LayerNorm(x, w, b) => {
                let [scale, shift] = [w, b].map(|t| self.tensor(t, &[length(x)], numbers(t)));
                self.node("LayerNormalization", vec![value(x), scale, shift], &out);
            }
        }
        out
    }

    /// A value that is one row, repeated for each row of another.
    fn repeated(
        &mut self,
        row: u32,
        names: &[String],
        lengths: &[usize],
        like: &str,
        out: &str,
    ) -> String {
        let [rows, shape, repeated] =
            ["rows", "shape", "repeated"].map(|part| format!("{out}.{part}"));
        self.node("Shape", vec![like.into()], &rows);
        self.attribute("start", 0);
        self.attribute("end", 1);
        let length = self.integer(&format!("{out}.length"), lengths[row as usize] as i64);
        self.node("Concat", vec![rows, length], &shape);
        self.attribute("axis", 0);
        self.node("Expand", vec![names[row as usize].clone(), shape], &repeated);
        repeated
    }

    /// Gives the last node an integer attribute.
    fn attribute(&mut self, name: &str, i: i64) {
        let node = self.nodes.last_mut().expect("there is a node");
        node.attribute.push(Attribute { name: name.into(), i, kind: 2 });
    }

    fn node(&mut self, op_type: &str, input: Vec<String>, output: &str) {
        self.nodes.push(Node {
            input,
            output: vec![output.into()],
            name: output.into(),
            op_type: op_type.into(),
            attribute: Vec::new(),
        });
    }

    /// A tensor of the graph; used twice, it is written once.
    fn tensor(&mut self, index: u32, dims: &[i64], numbers: &[f32]) -> String {
        let name = format!("t{index}");
        if !self.tensors.iter().any(|tensor| tensor.name == name) {
            let raw_data = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
            self.initializer(&name, dims, FLOAT, raw_data);
        }
        name
    }

    fn float(&mut self, name: &str, x: f32) -> String {
        self.initializer(name, &[], FLOAT, x.to_le_bytes().into());
        name.into()
    }

    fn integer(&mut self, name: &str, i: i64) -> String {
        self.initializer(name, &[1], INT64, i.to_le_bytes().into());
        name.into()
    }

    fn initializer(&mut self, name: &str, dims: &[i64], data_type: i32, raw_data: Vec<u8>) {
        self.tensors.push(TensorProto {
            dims: dims.into(),
            data_type,
            name: name.into(),
            raw_data,
        });
    }
}
