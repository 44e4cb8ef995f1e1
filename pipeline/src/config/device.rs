//! Which device to compute on.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tch::{Cuda, Device};

use crate::failure::UsageError;

/// `auto`, `cpu`, `cuda` or `cuda:N`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, JsonSchema)]
#[schemars(with = "String")]
pub enum DeviceChoice {
    /// A GPU when there is one, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// GPU number; of several processes on a host each takes its own (LOCAL_RANK) unless a number is given.
    Cuda(Option<usize>),
}

impl DeviceChoice {
    /// The device itself.
    ///
    /// # Errors
    /// When a GPU is asked for and libtorch sees none.
    pub fn resolve(self) -> Result<Device, UsageError> {
        let count = usize::try_from(Cuda::device_count()).unwrap_or(0);
        let number = |name: &str| std::env::var(name).ok()?.trim().parse::<usize>().ok();
        // Processes started by hand may have a RANK alone: on one host each still takes a GPU of its own.
        let local_rank = || number("LOCAL_RANK").or_else(|| Some(number("RANK")? % count.max(1)));
        let wanted = match self {
            Self::Cpu => return Ok(Device::Cpu),
            Self::Auto if count == 0 => return Ok(Device::Cpu),
            Self::Auto | Self::Cuda(None) => local_rank().unwrap_or(0),
            Self::Cuda(Some(index)) => index,
        };
        if wanted < count {
            return Ok(Device::Cuda(wanted));
        }
        Err(UsageError::new(
            format!("device `{self}` wants GPU {wanted}, and libtorch sees {count}"),
            "`monopass doctor` says why; `--device cpu` computes without one",
        ))
    }
}

impl FromStr for DeviceChoice {
    type Err = UsageError;

    fn from_str(text: &str) -> Result<Self, UsageError> {
        match text.trim() {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(None)),
            other => other
                .strip_prefix("cuda:")
                .and_then(|index| index.parse().ok())
                .map(|index| Self::Cuda(Some(index)))
                .ok_or_else(|| {
                    UsageError::new(format!("device `{text}` is unknown"), "write `auto`, `cpu`, `cuda` or `cuda:0`")
                }),
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(None) => f.write_str("cuda"),
            Self::Cuda(Some(index)) => write!(f, "cuda:{index}"),
        }
    }
}

impl Serialize for DeviceChoice {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for DeviceChoice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|error: UsageError| {
            serde::de::Error::custom(format!(
                "got `{text}`, wanted `auto`, `cpu`, `cuda` or `cuda:N` ({})",
                error.message
            ))
        })
    }
}
