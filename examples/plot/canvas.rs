//! A page of a plot: title, subtitle, legend, and the area below.

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use support::Result;

/// Okabe and Ito's colours, which colour-blind readers can tell apart.
pub(crate) const PALETTE: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(230, 159, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(213, 94, 0),
];
pub(crate) const INK: RGBColor = RGBColor(40, 40, 40);
pub(crate) const FAINT: RGBColor = RGBColor(215, 215, 215);

/// Size of every plot.
pub(crate) const SIZE: (u32, u32) = (960, 540);

/// Height of title, subtitle and legend.
const HEADER: i32 = 92;

pub(crate) type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Draws a plot: `draw` gets the page and the part of it below the header.
pub(crate) fn page(
    title: &str,
    subtitle: &str,
    legend: &[(String, RGBColor)],
    draw: impl FnOnce(&Area<'_>, &Area<'_>) -> Result,
) -> Result<String> {
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        root.fill(&WHITE)?;
        text(&root, title, (24, 16), 22, INK, HPos::Left)?;
        text(&root, subtitle, (24, 44), 14, INK, HPos::Left)?;
        let mut x = 24;
        for (name, color) in legend {
            root.draw(&Rectangle::new([(x, 69), (x + 14, 83)], color.filled()))?;
            text(&root, name, (x + 20, 68), 14, INK, HPos::Left)?;
            x += 46 + 8 * name.chars().count() as i32;
        }
        let (_, body) = root.split_vertically(HEADER);
        draw(&root, &body)?;
        root.present()?;
    }
    Ok(svg + "\n")
}

/// Writes `text` with its top, and that side of it which `anchor` names, at a pixel of the page.
pub(crate) fn text(area: &Area<'_>, text: &str, at: (i32, i32), size: i32, color: RGBColor, anchor: HPos) -> Result {
    let style = TextStyle::from(("sans-serif", size).into_font()).color(&color).pos(Pos::new(anchor, VPos::Top));
    area.draw(&Text::new(text.to_owned(), at, style))?;
    Ok(())
}
