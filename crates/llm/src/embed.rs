//! Embeddings: OpenAI's call, what Cohere, Gemini, Vertex AI and Bedrock want instead of it, and their vectors as OpenAI's
//! callers read them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::json::{Fields, Malformed, Object, Read, string_of, tally};
use crate::meaning::Error;

/// Texts in one call; OpenAI takes as many.
const MOST: usize = 2_048;

/// What is to be embedded.
#[derive(Clone, Debug, PartialEq)]
pub struct Embed {
    pub texts: Vec<String>,
    pub dimensions: Option<u64>,
    /// Vectors as base64 of little-endian floats.
    pub base64: bool,
    /// Cohere's word for what the vectors are for; callers may send it along.
    pub input_type: Option<String>,
    /// Google's.
    pub task_type: Option<String>,
}

/// Who is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Embedder {
    /// `v2/embed`.
    Cohere,
    /// `models/NAME:batchEmbedContents`.
    Gemini,
    /// `models/NAME:predict`.
    Vertex,
    /// Amazon's models on Bedrock (`model/NAME/invoke`), a call for each text.
    Titan,
    /// Cohere's models on Bedrock.
    CohereOnBedrock,
}

impl Embedder {
    /// On Bedrock a model's name says whose it is.
    pub fn on_bedrock(model: &str) -> Self {
        if model.contains("cohere.") { Self::CohereOnBedrock } else { Self::Titan }
    }
}

impl Embed {
    /// OpenAI's call.
    pub fn parse(body: &[u8]) -> Read<Self> {
        let mut fields = Fields::parse(body)?;
        let texts = match fields.value("input") {
            Some(Value::String(text)) => vec![text],
            Some(Value::Array(list)) if list.iter().all(Value::is_string) && !list.is_empty() => {
                list.into_iter().map(|text| string_of(&text)).collect()
            }
            Some(Value::Array(list))
                if list.iter().all(|item| item.is_number() || item.is_array()) && !list.is_empty() =>
            {
                return Err(Malformed::new("input", "holds tokens, which mean nothing to this provider: send text"));
            }
            Some(_) => return Err(Malformed::new("input", "must be text or a list of texts")),
            None => return Err(Malformed::new("input", "is required")),
        };
        if texts.len() > MOST {
            return Err(Malformed::new("input", format!("holds more than {MOST} texts")));
        }
        let base64 = match fields.text("encoding_format")?.as_deref() {
            None | Some("float") => false,
            Some("base64") => true,
            Some(_) => return Err(Malformed::new("encoding_format", "is neither float nor base64")),
        };
        Ok(Self {
            texts,
            dimensions: fields.count("dimensions")?,
            base64,
            input_type: fields.text("input_type")?,
            task_type: fields.text("task_type")?,
        })
    }

    /// The provider's call, or its calls: their answers are [`joined`].
    pub fn render(&self, to: Embedder, model: &str) -> Vec<Vec<u8>> {
        let kind = self.input_type.as_deref().unwrap_or("search_document");
        let dimensions = self.dimensions;
        let one = match to {
            Embedder::Cohere => Object::new()
                .with("model", model)
                .with("texts", self.texts.clone())
                .with("input_type", kind)
                .with("embedding_types", json!(["float"]))
                .maybe("output_dimension", dimensions),
            Embedder::CohereOnBedrock => Object::new()
                .with("texts", self.texts.clone())
                .with("input_type", kind)
                .with("embedding_types", json!(["float"]))
                .maybe("output_dimension", dimensions),
            Embedder::Gemini => {
                let request = |text: &String| {
                    Object::new()
                        .with("model", format!("models/{model}"))
                        .with("content", json!({"parts": [{"text": text}]}))
                        .maybe("taskType", self.task_type.as_deref())
                        .maybe("outputDimensionality", dimensions)
                        .done()
                };
                Object::new().with("requests", self.texts.iter().map(request).collect::<Vec<_>>())
            }
            Embedder::Vertex => {
                let instance = |text: &String| {
                    Object::new().with("content", text.as_str()).maybe("task_type", self.task_type.as_deref()).done()
                };
                let parameters = Object::new().maybe("outputDimensionality", dimensions).unless_empty();
                Object::new()
                    .with("instances", self.texts.iter().map(instance).collect::<Vec<_>>())
                    .maybe("parameters", parameters)
            }
            Embedder::Titan => {
                let body =
                    |text: &String| Object::new().with("inputText", text.as_str()).maybe("dimensions", dimensions);
                return self.texts.iter().map(|text| body(text).bytes()).collect();
            }
        };
        vec![one.bytes()]
    }

    /// Bytes that are embedded, for who has to estimate.
    pub fn bytes(&self) -> usize {
        self.texts.iter().map(String::len).sum()
    }

    /// OpenAI's answer, and the tokens that were counted: `None` where the provider does not tell.
    pub fn answer(
        &self,
        from: Embedder,
        body: &[u8],
        model: &str,
        estimate: u64,
    ) -> Result<(Vec<u8>, Option<u64>), Error> {
        let value: Value = serde_json::from_slice(body)
            .map_err(|e| Error::bad_stream(format!("the provider's answer is not valid JSON: {e}")))?;
        let (vectors, tokens) =
            read(from, &value).ok_or_else(|| Error::bad_stream("the provider's answer has no vectors"))?;
        if vectors.len() != self.texts.len() {
            return Err(Error::bad_stream("the provider's answer has another number of vectors than was asked for"));
        }
        let data: Vec<Value> = vectors
            .into_iter()
            .enumerate()
            .map(|(index, vector)| {
                let embedding = if self.base64 { packed(vector).into() } else { Value::Array(vector.clone()) };
                json!({"object": "embedding", "index": index, "embedding": embedding})
            })
            .collect();
        let told = tokens.unwrap_or(estimate);
        let usage = json!({"prompt_tokens": told, "total_tokens": told});
        let answer = Object::new().with("object", "list").with("data", data).with("model", model).with("usage", usage);
        Ok((answer.bytes(), tokens))
    }
}

/// Answers to calls with a text each, as one.
///
/// # Errors
/// One of them has no vector.
pub fn joined<'b>(bodies: impl IntoIterator<Item = &'b [u8]>) -> Result<Vec<u8>, Error> {
    let (mut vectors, mut tokens) = (Vec::new(), Some(0_u64));
    for body in bodies {
        let mut value: Value = serde_json::from_slice(body)
            .map_err(|e| Error::bad_stream(format!("the provider's answer is not valid JSON: {e}")))?;
        tokens = tokens.zip(value["inputTextTokenCount"].as_u64()).map(|(sum, own)| sum.saturating_add(own));
        vectors.push(value["embedding"].take());
    }
    Ok(Object::new().with("embeddings", vectors).maybe("inputTextTokenCount", tokens).bytes())
}

type Vectors<'a> = Vec<&'a Vec<Value>>;

fn read(from: Embedder, value: &Value) -> Option<(Vectors<'_>, Option<u64>)> {
    match from {
        Embedder::Cohere | Embedder::CohereOnBedrock => {
            let list =
                if value["embeddings"].is_array() { &value["embeddings"] } else { &value["embeddings"]["float"] };
            let tokens = value["meta"]["billed_units"]["input_tokens"].as_u64();
            Some((under(list, "")?, tokens))
        }
        Embedder::Gemini => Some((under(&value["embeddings"], "/values")?, None)),
        Embedder::Vertex => {
            let list = value["predictions"].as_array()?;
            let tokens = list.iter().map(|one| tally(&one["embeddings"]["statistics"]["token_count"])).sum();
            Some((under(&value["predictions"], "/embeddings/values")?, Some(tokens)))
        }
        Embedder::Titan => {
            let vectors = match value["embeddings"].as_array() {
                Some(list) => list.iter().map(Value::as_array).collect::<Option<Vec<_>>>()?,
                None => vec![value["embedding"].as_array()?],
            };
            Some((vectors, value["inputTextTokenCount"].as_u64()))
        }
    }
}

/// The list that stands in each item of a list.
fn under<'a>(list: &'a Value, at: &str) -> Option<Vectors<'a>> {
    list.as_array()?.iter().map(|item| item.pointer(at)?.as_array()).collect()
}

fn packed(vector: &[Value]) -> String {
    let floats = vector.iter().map(|number| number.as_f64().unwrap_or(0.0) as f32);
    STANDARD.encode(floats.flat_map(f32::to_le_bytes).collect::<Vec<u8>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn embed(body: &Value) -> Read<Embed> {
        Embed::parse(body.to_string().as_bytes())
    }

    #[test]
    fn each_provider_gets_texts_and_dimensions_in_its_own_words() {
        let two =
            embed(&json!({"model": "m", "input": ["a", "b"], "dimensions": 8, "input_type": "search_query"})).unwrap();
        let value = |to| serde_json::from_slice::<Value>(&two.render(to, "m")[0]).unwrap();
        let cohere = json!({"texts": ["a", "b"], "input_type": "search_query", "embedding_types": ["float"], "output_dimension": 8});
        assert_eq!(value(Embedder::CohereOnBedrock), cohere);
        assert_eq!(value(Embedder::Cohere)["model"], "m");
        let gemini = value(Embedder::Gemini);
        assert_eq!(
            gemini["requests"][1],
            json!({"model": "models/m", "content": {"parts": [{"text": "b"}]}, "outputDimensionality": 8})
        );
        let vertex =
            json!({"instances": [{"content": "a"}, {"content": "b"}], "parameters": {"outputDimensionality": 8}});
        assert_eq!(value(Embedder::Vertex), vertex);
        let each = [br#"{"inputText":"a","dimensions":8}"#, br#"{"inputText":"b","dimensions":8}"#];
        assert_eq!(two.render(Embedder::Titan, "m"), each);
        assert_eq!(Embedder::on_bedrock("cohere.embed-v4:0"), Embedder::CohereOnBedrock);
        assert_eq!(Embedder::on_bedrock("amazon.titan-embed-text-v2:0"), Embedder::Titan);
    }

    #[test]
    fn answers_to_a_call_each_are_one_and_their_tokens_a_sum() {
        let two = embed(&json!({"model": "m", "input": ["a", "b"]})).unwrap();
        let answers =
            [br#"{"embedding":[0.5],"inputTextTokenCount":3}"#, br#"{"embedding":[1.5],"inputTextTokenCount":4}"#];
        let body = joined(answers.map(|body| body.as_slice())).unwrap();
        let (told, tokens) = two.answer(Embedder::Titan, &body, "mine", 99).unwrap();
        let told: Value = serde_json::from_slice(&told).unwrap();
        assert_eq!(
            (tokens, &told["data"][1]["embedding"], &told["usage"]["prompt_tokens"]),
            (Some(7), &json!([1.5]), &json!(7))
        );
        for bad in [br#"{"error":1}"#.as_slice(), b"?"] {
            let body = joined([answers[0].as_slice(), bad]);
            assert!(body.and_then(|body| two.answer(Embedder::Titan, &body, "mine", 9)).is_err());
        }
    }

    #[test]
    fn vectors_come_back_as_openais_callers_read_them() {
        let one = embed(&json!({"model": "m", "input": ["a"]})).unwrap();
        for (from, body, tokens) in [
            (
                Embedder::Cohere,
                json!({"embeddings": {"float": [[0.5, -1.0]]}, "meta": {"billed_units": {"input_tokens": 3}}}),
                Some(3),
            ),
            (Embedder::CohereOnBedrock, json!({"embeddings": [[0.5, -1.0]]}), None),
            (Embedder::Gemini, json!({"embeddings": [{"values": [0.5, -1.0]}]}), None),
            (
                Embedder::Vertex,
                json!({"predictions": [{"embeddings": {"values": [0.5, -1.0], "statistics": {"token_count": 3}}}]}),
                Some(3),
            ),
            (Embedder::Titan, json!({"embedding": [0.5, -1.0], "inputTextTokenCount": 3}), Some(3)),
        ] {
            let (body, told) = one.answer(from, body.to_string().as_bytes(), "mine", 9).unwrap();
            let body: Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(told, tokens, "{from:?}");
            assert_eq!(
                body["data"],
                json!([{"object": "embedding", "index": 0, "embedding": [0.5, -1.0]}]),
                "{from:?}"
            );
            assert_eq!(
                (&body["model"], &body["usage"]["prompt_tokens"]),
                (&"mine".into(), &tokens.unwrap_or(9).into())
            );
            assert!(one.answer(from, b"{}", "mine", 9).is_err() && one.answer(from, b"x", "mine", 9).is_err());
        }
        let packed = Embed { base64: true, ..one };
        let told = packed.answer(Embedder::Titan, br#"{"embedding":[0.5,-1.0]}"#, "m", 1).unwrap().0;
        let told: Value = serde_json::from_slice(&told).unwrap();
        assert_eq!(told["data"][0]["embedding"], "AAAAPwAAgL8=", "two little-endian floats");
        let many = packed.answer(Embedder::Gemini, br#"{"embeddings":[]}"#, "m", 1);
        assert!(many.is_err(), "as many vectors as texts");
    }

    #[test]
    fn what_cannot_be_embedded_is_refused_by_name() {
        for (body, path) in [
            (json!({"model": "m"}), "input"),
            (json!({"model": "m", "input": [1, 2]}), "input"),
            (json!({"model": "m", "input": [[1], [2]]}), "input"),
            (json!({"model": "m", "input": []}), "input"),
            (json!({"model": "m", "input": "a", "encoding_format": "int8"}), "encoding_format"),
        ] {
            assert_eq!(embed(&body).unwrap_err().path, path, "{body}");
        }
    }
}
