//! MP4 files with H.264, encoded by OpenH264.

use super::Pictures;
use super::output::MARK;
use openh264::OpenH264API;
use openh264::encoder::{
    Encoder, EncoderConfig, FrameRate, FrameType, IntraFramePeriod, RateControlMode, VuiConfig,
};
use openh264::formats::{RgbSliceU8, YUVBuffer};
use shiguredo_mp4::bitstream::h264::{
    H264NalUnitType, H264SampleEntryConfig, LengthSize, build_avc1_box_from_annexb,
    parse_annexb_nal_units,
};
use shiguredo_mp4::boxes::SampleEntry;
use shiguredo_mp4::mux::{
    Mp4FileMuxer, Mp4FileMuxerOptions, Sample, TrackMetadata, estimate_maximum_moov_box_size,
};
use shiguredo_mp4::{TrackKind, Utf8String};
use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::num::NonZeroU32;

/// Parts of a second that durations are counted in, the field's usual number.
const TIMESCALE: NonZeroU32 = NonZeroU32::new(90_000).expect("is not zero");
/// Seconds between pictures that need no others, where a player can begin.
const SEEKABLE: f64 = 2.0;

/// Writes a video.
///
/// # Errors
/// A picture can't be drawn, encoded or written.
pub fn write(file: &mut File, pictures: &mut dyn Pictures) -> io::Result<()> {
    let [width, height] = pictures.size().map(|size| size as usize);
    let period = (SEEKABLE * pictures.rate()).ceil() as u32;
    let config = EncoderConfig::new()
        // A fixed quality: to hit a bit rate the encoder would leave pictures out.
        .rate_control_mode(RateControlMode::Off)
        .skip_frames(false)
        .max_frame_rate(FrameRate::from_hz(pictures.rate() as f32))
        .intra_frame_period(IntraFramePeriod::from_num_frames(period))
        .scene_change_detect(false)
        // The colours that `YUVBuffer` has.
        .vui(VuiConfig::bt601())
        .num_threads(1);
    let mut encoder =
        Encoder::with_api_config(OpenH264API::from_source(), config).map_err(io::Error::other)?;
    let name = Utf8String::new(MARK).expect("has no zero");
    let mut muxer = Mp4FileMuxer::with_options(Mp4FileMuxerOptions {
        // The index comes first, so that a browser can begin before it has the whole file.
        reserved_moov_box_size: estimate_maximum_moov_box_size(&[pictures.count()]),
        video_track: TrackMetadata { name, ..TrackMetadata::default() },
        ..Mp4FileMuxerOptions::default()
    })
    .map_err(io::Error::other)?;
    file.write_all(muxer.initial_boxes_bytes())?;
    let mut end = muxer.initial_boxes_bytes().len() as u64;

    let mut yuv = YUVBuffer::new(width, height);
    for index in 0..pictures.count() {
        let duration = pictures.duration(index, f64::from(TIMESCALE.get()));
        yuv.read_rgb8(RgbSliceU8::new(pictures.picture(index)?, (width, height)));
        let encoded = encoder.encode(&yuv).map_err(io::Error::other)?;
        let keyframe = matches!(encoded.frame_type(), FrameType::IDR);
        let stream = encoded.to_vec();
        let entry = (index == 0).then(|| sample_entry(&stream)).transpose()?;
        let data = sample(&stream)?;
        file.write_all(&data)?;
        muxer
            .append_sample(&Sample {
                track_kind: TrackKind::Video,
                sample_entry: entry,
                keyframe,
                timescale: TIMESCALE,
                duration,
                composition_time_offset: None,
                data_offset: end,
                data_size: data.len(),
            })
            .map_err(io::Error::other)?;
        end += data.len() as u64;
    }
    for (at, bytes) in muxer.finalize().map_err(io::Error::other)?.offset_and_bytes_pairs() {
        file.seek(SeekFrom::Start(at))?;
        file.write_all(bytes)?;
    }
    Ok(())
}

/// What a decoder must know before the first picture.
fn sample_entry(stream: &[u8]) -> io::Result<SampleEntry> {
    let config = H264SampleEntryConfig { length_size: LengthSize::FourBytes };
    let entry = build_avc1_box_from_annexb(stream, &config).map_err(io::Error::other)?;
    Ok(SampleEntry::Avc1(entry))
}

/// An encoded picture as MP4 has it: each part after its length, without the parameter sets, which
/// the sample entry has.
fn sample(stream: &[u8]) -> io::Result<Vec<u8>> {
    let mut data = Vec::with_capacity(stream.len());
    for part in parse_annexb_nal_units(stream).map_err(io::Error::other)? {
        if !matches!(part.nal_unit_type, H264NalUnitType::Sps | H264NalUnitType::Pps) {
            data.extend((part.data.len() as u32).to_be_bytes());
            data.extend(part.data);
        }
    }
    Ok(data)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{SIZE, Square};
    use super::*;
    use mp4parse::unstable::{CheckedInteger, Indice, create_sample_table};
    use mp4parse::{SampleEntry, Track, VideoCodecSpecific, read_mp4};
    use openh264::decoder::Decoder;
    use openh264::formats::YUVSource;

    /// A video as Firefox's reader of MP4 and a decoder find it.
    struct Read {
        bytes: Vec<u8>,
        track: Track,
        samples: Vec<Indice>,
        /// The pictures as RGB.
        pictures: Vec<Vec<u8>>,
    }

    /// Writes a video and reads it.
    fn written(pictures: &mut Square) -> Read {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        write(file.as_file_mut(), pictures).unwrap();
        let bytes = std::fs::read(file.path()).unwrap();
        let mut tracks = read_mp4(&mut bytes.as_slice()).unwrap().tracks.into_iter();
        let (track, None) = (tracks.next().unwrap(), tracks.next()) else { panic!("one track") };
        let samples = create_sample_table(&track, CheckedInteger(0)).unwrap();
        let samples: Vec<Indice> = samples.into_iter().collect();

        let mut decoder = Decoder::new().unwrap();
        let mut decode = |parts: &[&[u8]]| {
            let stream: Vec<u8> =
                parts.iter().flat_map(|part| [&[0, 0, 0, 1], *part].concat()).collect();
            decoder.decode(&stream).unwrap().map(|picture| {
                assert_eq!(picture.dimensions(), (SIZE[0] as usize, SIZE[1] as usize));
                let mut rgb = vec![0; 3 * (SIZE[0] * SIZE[1]) as usize];
                picture.write_rgb8(&mut rgb);
                rgb
            })
        };
        let Some(SampleEntry::Video(entry)) = &track.stsd.as_ref().unwrap().descriptions.first()
        else {
            panic!("no video")
        };
        let VideoCodecSpecific::AVCConfig(sets) = &entry.codec_specific else { panic!("no H.264") };
        // Six bytes, a set after its length, their number, another set (ISO/IEC 14496-15).
        let set = |at: usize| {
            let length = usize::from(u16::from_be_bytes([sets[at], sets[at + 1]]));
            &sets[at + 2..at + 2 + length]
        };
        let first = set(6);
        assert!(decode(&[first, set(6 + 2 + first.len() + 1)]).is_none());
        let pictures = samples.iter().map(|sample| {
            let mut rest = &bytes[sample.start_offset.0 as usize..sample.end_offset.0 as usize];
            let mut parts = Vec::new();
            while let Some((length, after)) = rest.split_first_chunk() {
                let (part, after) = after.split_at(u32::from_be_bytes(*length) as usize);
                parts.push(part);
                rest = after;
            }
            decode(&parts).expect("a picture for each sample")
        });
        let pictures = pictures.collect();
        Read { bytes, track, samples, pictures }
    }

    #[test]
    fn another_reader_finds_every_picture_at_its_time_and_in_its_colours() {
        let found = written(&mut Square::new(125.0 / 3.0, 30));
        let header = found.track.tkhd.unwrap();
        assert_eq!([header.width >> 16, header.height >> 16], SIZE);
        assert_eq!(found.track.timescale.unwrap().0, 90_000);
        assert_eq!(found.track.duration.unwrap().0, 30 * 2160);
        let starts = found.samples.iter().map(|sample| sample.start_composition.0);
        assert!(starts.eq((0..30).map(|index| index * 2160)));
        for (index, rgb) in found.pictures.iter().enumerate() {
            let middle = 2 * index + 12;
            for (x, y) in [(middle, 32), (2, 2), (90, 60)] {
                let at = 3 * (y * SIZE[0] as usize + x);
                for (found, colour) in rgb[at..at + 3].iter().zip(Square::colour(index, x, y)) {
                    assert!(found.abs_diff(colour) < 16, "{index} {x} {y}: {:?}", &rgb[at..at + 3]);
                }
            }
        }
    }

    #[test]
    fn one_can_seek_every_two_seconds_and_the_index_comes_first() {
        let Read { bytes, samples, .. } = written(&mut Square::new(10.0, 50));
        let seekable = samples.iter().enumerate().filter(|(_, sample)| sample.sync);
        assert_eq!(seekable.map(|(index, _)| index).collect::<Vec<_>>(), [0, 20, 40]);
        let place = |name: &[u8]| bytes.windows(4).position(|four| four == name).unwrap();
        assert!(place(b"moov") < place(b"mdat"));
        // The same pictures give the same bytes.
        assert!(written(&mut Square::new(10.0, 50)).bytes == bytes);
    }
}
