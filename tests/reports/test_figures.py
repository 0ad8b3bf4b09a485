"""Pictures hold what they were given: colours, columns, boxes; and they are whole or absent."""

import csv
import itertools

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.text import Text

from synseg_jax.imaging import colours as colours_
from synseg_jax.reports import comparison_plots, curve_panel, figures, training_curves

CLASSES = ['background', 'spleen', 'liver']


@pytest.fixture
def drawn(monkeypatch):
    """The figures as they were saved."""
    kept = []
    savefig = Figure.savefig

    def keep(figure, *args, **kwargs):
        kept.append(figure)
        savefig(figure, *args, **kwargs)

    monkeypatch.setattr(Figure, 'savefig', keep)
    return kept


def scan(size=24):
    labels = np.zeros((size, size), np.uint8)
    labels[4:12, 4:12], labels[14:20, 10:20] = 1, 2
    return np.clip(labels / 2 + 0.1, 0, 1), labels


def has_colour(path, colour, tolerance=0.02):
    return (np.abs(imread(path)[..., :3] - to_rgb(colour)).max(-1) < tolerance).any()


def test_class_colours_are_distinct_and_repeat():
    assert len(set(colours_.COLOURS)) == len(colours_.COLOURS) == 15
    assert colours_.colour(1) == colours_.colour(16) != colours_.colour(2)


def test_panel(tmp_path, drawn):
    image, labels = scan()
    row = {'real MR': image, 'MR labels': (image, labels), 'real CT': image}
    figures.panel(tmp_path / 'panel.png', [row, row], CLASSES, gap_before='real CT')
    (figure,) = drawn
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.texts] == ['real\nMR', 'MR\nlabels', 'real\nCT']
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ['spleen', 'liver']
    places = [text.get_position()[0] for text in axes.texts]
    assert places[2] - places[1] > places[1] - places[0] > 24
    seen = axes.images[0].get_array()
    for x in places:
        column = seen[:, int(x - 11.5) : int(x + 12.5)]
        np.testing.assert_allclose(column[:24], image, atol=1e-6)
        np.testing.assert_allclose(column[-24:], image, atol=1e-6)
    assert has_colour(tmp_path / 'panel.png', colours_.colour(2))
    assert [path.name for path in tmp_path.iterdir()] == ['panel.png']


def test_panel_overlay_has_the_colour_of_the_class(tmp_path, drawn):
    image, labels = scan()
    only_liver = np.where(labels == 2, 2, 0)
    figures.panel(tmp_path / 'panel.png', [{'x': (image, only_liver)}], CLASSES)
    over = drawn[0].axes[0].images[1]
    colours = over.to_rgba(over.get_array())
    assert np.allclose(colours[16, 15, :3], to_rgb(colours_.colour(2)), atol=0.01)
    assert colours[0, 0, 3] == 0


@pytest.mark.parametrize('size, dots', [(24, 4.0), (130, 2.0)])
def test_panel_has_four_dots_a_pixel_and_no_more_than_200_an_inch(tmp_path, size, dots):
    figures.panel(tmp_path / 'panel.png', [dict.fromkeys('xyz', scan(size)[0])], CLASSES)
    assert imread(tmp_path / 'panel.png').shape[1] == pytest.approx(3 * size * dots, rel=0.06)


def test_panel_without_labels_has_no_legend_and_refuses_unlike_rows(tmp_path, drawn):
    image, _ = scan()
    figures.panel(tmp_path / 'panel.png', [{'x': image}], CLASSES)
    assert not drawn[0].legends
    with pytest.raises(ValueError, match='titles'):
        figures.panel(tmp_path / 'panel.png', [{'x': image}, {'y': image}], CLASSES)


def test_overlays(tmp_path, drawn):
    image, labels = scan()
    empty = np.zeros_like(labels)
    full = np.ones_like(labels)
    scans = [
        figures.Panel('both', image, labels, np.roll(labels, 2, 0)),
        figures.Panel('nothing predicted', image, labels, empty, (2.0, 1.0)),
        figures.Panel('to the border', image, full, full, note='worst, Dice 1.00'),
    ]
    figures.overlays(tmp_path / 'overlays.png', scans, CLASSES)
    axes = drawn[0].axes
    assert [a.get_title() for a in axes] == ['both', 'nothing predicted', 'to the border\nworst, Dice 1.00']
    assert [len(a.collections) for a in axes] == [4, 2, 2]
    assert axes[1].get_aspect() == 2
    assert [t.get_text() for t in drawn[0].legends[0].get_texts()] == ['reference', 'prediction', 'spleen', 'liver']
    rows = axes[2].collections[0].get_paths()[0].vertices[:, 1]
    assert (rows.min(), rows.max()) == (-0.5, 23.5)  # the outline lies on the edge of the picture, closed


@pytest.mark.parametrize(
    ('shape', 'spacing_mm'), [((384, 5), (0.9, 0.05)), ((64, 1), (5.0, 0.05)), ((1, 64), (0.05, 5.0))]
)
def test_overlays_have_a_largest_size(tmp_path, spacing_mm, shape):
    """A thin sagittal series made 1,923 x 121,466 dots."""
    labels = np.zeros(shape, np.uint8)
    labels[shape[0] // 4 : shape[0] // 2 + 1] = 1
    shown = figures.Panel('slice', np.full(shape, 0.5, np.float32), None, labels, spacing_mm)
    figures.overlays(tmp_path / 'overlays.png', [shown] * 5, CLASSES)
    drawn = imread(tmp_path / 'overlays.png').shape[:2]
    assert 200 < max(drawn) <= figures.LARGEST and min(drawn) > 100
    assert has_colour(tmp_path / 'overlays.png', colours_.colour(1), 0.2)


def test_overlays_keep_what_can_be_shown_in_proportion(tmp_path, drawn):
    image, labels = scan()
    for spacing_mm in ((3.0, 1.0), (1.0, 7.5)):
        figures.overlays(tmp_path / 'o.png', [figures.Panel('', image, None, labels, spacing_mm)], CLASSES)
        assert drawn[-1].axes[0].get_aspect() == pytest.approx(spacing_mm[0] / spacing_mm[1])


@pytest.mark.parametrize('shape', [(64, 1), (1, 64), (200, 200)])
def test_panels_have_a_largest_size(tmp_path, shape):
    image = np.linspace(0, 1, np.prod(shape), dtype=np.float32).reshape(shape)
    row = {'real a': image, 'label of a': (image, np.ones(shape, np.uint8))}
    figures.panel(tmp_path / 'panel.png', [row] * 18, CLASSES)
    drawn = imread(tmp_path / 'panel.png').shape[:2]
    assert max(drawn) <= figures.LARGEST and min(drawn) > 30
    assert has_colour(tmp_path / 'panel.png', colours_.colour(1), 0.4)


def test_telling_slice():
    labels = np.zeros((8, 8, 5), np.uint8)
    labels[..., 1] = 1
    labels[:2, 0, 2], labels[:2, 1, 2] = 1, 2
    labels[:4, 0, 3], labels[:4, 1, 3] = 1, 2
    assert figures.telling_slice(labels) == 3
    assert figures.telling_slice(np.moveaxis(labels, 2, 0), axis=0) == 3


def write_metrics(path, n=200, torn=''):
    names = ['adv_a', 'adv_b', 'cyc_a', 'seg_fake_b', 'never', 'lr/g_ab', 'lr/d_a', 'lr/s_b', 'grad_norm/g_ab']
    with path.open('w', newline='') as file:
        writer = csv.writer(file)
        writer.writerow(['step', 'epoch', *names])
        for i in range(n):
            loss = 'nan' if i == 7 else 1 + i % 2
            writer.writerow([10 * i, i // 50, loss, 2, 3 / (i + 1), '' if i % 2 else 4, '', 1e-4, 2e-4, 1e-4, 5])
        file.write(torn)


def test_curves(tmp_path, drawn):
    write_metrics(tmp_path / 'metrics.csv', torn='2000,4,9')
    modality = {'a': 'MR', 'b': 'CT'}
    training_curves.curves(tmp_path / 'curves.png', tmp_path / 'metrics.csv', window=4, modality=modality)
    shown = {axes.get_title(loc='left'): axes for axes in drawn[0].axes if axes.axison}
    assert list(shown) == [
        'segmentation',
        'cycle consistency',
        'adversarial, generators',
        'gradient norm',
        'learning rate',
    ]
    raw, smooth = shown['adversarial, generators'].lines[:2]
    assert raw.get_xdata().size == 199 and raw.get_xdata().max() == 1990  # without the NaN and the torn row
    assert smooth.get_ydata()[0] == 1 and smooth.get_ydata()[-1] == 1.5
    labels = [text.get_text() for text in shown['learning rate'].get_legend().get_texts()]
    assert labels == ['MR to CT, CT segm.', 'MR discr.']
    assert shown['gradient norm'].get_yscale() == 'log'
    assert (tmp_path / 'curves.png').stat().st_size > 10_000


def test_curves_of_validation(tmp_path, drawn):
    write_metrics(tmp_path / 'metrics.csv')
    rows = ['step,score,change,agreement,volume/liver,volume/spleen']
    rows += ['1000,0.5,0.1,0.75,nan,1.0', '1990,0.6,0.1,0.7,2,0.1']
    (tmp_path / 'validation.csv').write_text('\n'.join(rows) + '\n')
    training_curves.curves(tmp_path / 'curves.png', tmp_path / 'metrics.csv', tmp_path / 'validation.csv')
    shown = {axes.get_title(loc='left'): axes for axes in drawn[0].axes if axes.axison}
    assert [*shown][:3] == ['validation, Dice', 'organ volume, b / a', 'change by translation']
    score, volume, change = [*shown.values()][:3]
    assert _labels(score) == ['score', 'agreement'] and _labels(volume) == ['liver', 'spleen']
    assert not change.get_legend() and score.get_ylim()[1] > 1
    assert [*map(list, score.lines[1].get_xydata())] == [[1000, 0.75], [1990, 0.7]]


def _labels(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


@pytest.mark.parametrize('organs', [2, 5, 12, 15])
def test_legends_hide_no_line(tmp_path, drawn, organs):
    write_metrics(tmp_path / 'metrics.csv')
    names = [f'organ number {i}' for i in range(organs)]
    rows = ['step,' + ','.join(f'volume/{name}' for name in names)]
    rows += [f'{step},' + ','.join(str(1 + i + step / 1000) for i in range(organs)) for step in (500, 1000, 1990)]
    (tmp_path / 'validation.csv').write_text('\n'.join(rows) + '\n')
    training_curves.curves(tmp_path / 'curves.png', tmp_path / 'metrics.csv', tmp_path / 'validation.csv')
    figure = drawn[0]
    figure.draw_without_rendering()
    for axes in (axes for axes in figure.axes if axes.axison and axes.get_legend()):
        legend = axes.get_legend().get_window_extent()
        points = np.concatenate([axes.transData.transform(line.get_xydata()) for line in axes.lines])
        assert not legend.padded(-1).count_contains(points), axes.get_title(loc='left')
        others = [other.get_tightbbox() for other in figure.axes if other.axison and other is not axes]
        assert (
            legend.count_overlaps(others) == 0
            and legend.x1 < figure.bbox.x1
            and 0 < legend.y0
            and legend.y1 < figure.bbox.y1
        )


def test_lines_differ_by_more_than_colour(tmp_path, drawn):
    write_metrics(tmp_path / 'metrics.csv')
    training_curves.curves(tmp_path / 'curves.png', tmp_path / 'metrics.csv', window=1)
    dashes = [line.get_linestyle() for line in drawn[0].axes[2].lines]
    assert len(dashes) == len({*dashes}) == 2


def test_no_two_of_thirteen_lines_look_alike():
    step, axes = np.arange(3), Figure().subplots()
    curve_panel.Panel('volume', '', step, {str(i): step + i for i in range(13)}).draw(axes)
    assert len({(line.get_color(), str(line._dash_pattern)) for line in axes.lines}) == 13


@pytest.mark.parametrize('columns', [1, 9])
def test_letters_are_legible_on_half_a_slide(tmp_path, drawn, columns):
    image, labels = scan()
    figures.panel(tmp_path / 'panel.png', [dict.fromkeys(map(str, range(columns)), (image, labels))], CLASSES)
    figures.overlays(tmp_path / 'o.png', [figures.Panel('case', image, labels, labels)] * columns, CLASSES)
    write_metrics(tmp_path / 'metrics.csv')
    training_curves.curves(tmp_path / 'curves.png', tmp_path / 'metrics.csv')
    comparison_plots.boxplots(tmp_path / 'b.png', {f'o{i}': {'x': [0.5]} for i in range(columns)}, measure='Dice')
    for figure in drawn:
        words = [text for text in figure.findobj(Text) if text.get_text() and text.get_visible()]
        smallest = min(text.get_fontsize() for text in words)
        assert smallest * 6.67 / figure.get_figwidth() > 8.3


def test_colours_differ_for_the_colour_blind():
    for sees in MACHADO.values():
        seen = _lab([np.clip(sees @ _linear(np.array(to_rgb(one))), 0, 1) for one in colours_.COLOURS])
        apart = [_ciede2000(one, other) for one, other in itertools.combinations(seen, 2)]
        assert min(apart) > 10.8


MACHADO = {  # https://doi.org/10.1109/TVCG.2009.113, severity 1, of linear RGB
    'normal': np.eye(3),
    'protanopia': np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    'deuteranopia': np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    'tritanopia': np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}


def _linear(srgb):
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def _lab(linear):
    to_xyz = np.array([[0.41246, 0.35758, 0.18044], [0.21267, 0.71515, 0.07217], [0.01933, 0.11919, 0.95030]])
    x, y, z = (np.asarray(linear) @ to_xyz.T / to_xyz.sum(1)).T
    x, y, z = (np.where(t > 0.008856, np.cbrt(t), 7.787 * t + 16 / 116) for t in (x, y, z))
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -1)


def _ciede2000(first, second):
    """Sharma, Wu and Dalal, Color Research and Application 30, 2005."""
    (l1, a1, b1), (l2, a2, b2) = first, second

    def bent(c):
        return np.sqrt(c**7 / (c**7 + 25**7))

    stretch = 1 + 0.5 * (1 - bent((np.hypot(a1, b1) + np.hypot(a2, b2)) / 2))
    c1, c2 = np.hypot(stretch * a1, b1), np.hypot(stretch * a2, b2)
    h1, h2 = (np.degrees(np.arctan2(b, stretch * a)) % 360 for a, b in ((a1, b1), (a2, b2)))
    turn = (h2 - h1 + 180) % 360 - 180
    light, chroma, hue = (l1 + l2) / 2, (c1 + c2) / 2, h1 + turn / 2
    dh = 2 * np.sqrt(c1 * c2) * np.sin(np.radians(turn / 2))
    waves = ((-0.17, 1, -30), (0.24, 2, 0), (0.32, 3, 6), (-0.20, 4, -63))
    t = 1 + sum(size * np.cos(np.radians(times * hue + shift)) for size, times, shift in waves)
    by_light = (l2 - l1) / (1 + 0.015 * (light - 50) ** 2 / np.sqrt(20 + (light - 50) ** 2))
    by_chroma, by_hue = (c2 - c1) / (1 + 0.045 * chroma), dh / (1 + 0.015 * chroma * t)
    rotation = -np.sin(np.radians(60 * np.exp(-(((hue % 360 - 275) / 25) ** 2)))) * 2 * bent(chroma)
    return np.sqrt(by_light**2 + by_chroma**2 + by_hue**2 + rotation * by_chroma * by_hue)


def test_ciede2000_of_the_published_pairs():
    pairs = [((50, 2.6772, -79.7751), (50, 0, -82.7485), 2.0425), ((50, 2.5, 0), (73, 25, -18), 27.1492),
             ((2.0776, 0.0795, -1.1350), (0.9033, -0.0636, -0.5514), 0.9082)]  # fmt: skip
    for first, second, apart in pairs:
        assert _ciede2000(first, second) == pytest.approx(apart, abs=1e-4)


def test_curves_of_one_row_and_of_none(tmp_path):
    write_metrics(tmp_path / 'metrics.csv', n=1)
    training_curves.curves(tmp_path / 'curves.png', tmp_path / 'metrics.csv')
    write_metrics(tmp_path / 'metrics.csv', n=0)
    with pytest.raises(ValueError, match=r'metrics\.csv holds no values'):
        training_curves.curves(tmp_path / 'none.png', tmp_path / 'metrics.csv')
    assert not (tmp_path / 'none.png').exists()


def test_boxplots(tmp_path, drawn):
    systems = {'ours': {'spleen': [0.5, 0.75, 1.0, None], 'liver': []}, 'theirs': {'liver': [0.25, float('nan')]}}
    training_curves.boxplots(tmp_path / 'boxes.png', systems)
    (axes,) = drawn[0].axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ['spleen', 'liver']
    assert sorted(y for dots in axes.collections for y in dots.get_offsets()[:, 1]) == [0.25, 0.5, 0.75, 1.0]
    assert len(axes.patches) == 2
    assert [text.get_text() for text in drawn[0].legends[0].get_texts()] == ['ours', 'theirs']


def test_no_state_is_left_behind(tmp_path):
    with matplotlib.rc_context({'font.size': 17}):
        before = dict(matplotlib.rcParams)
        training_curves.boxplots(tmp_path / 'boxes.png', {'ours': {'spleen': [0.5]}})
        assert dict(matplotlib.rcParams) == before


def test_a_failed_picture_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / 'boxes.png'
    path.write_bytes(b'old')

    def half(figure, where, **_):
        where.write_bytes(b'half')
        raise OSError('disk full')

    monkeypatch.setattr(Figure, 'savefig', half)
    with pytest.raises(OSError):
        training_curves.boxplots(path, {'ours': {'spleen': [0.5]}})
    assert path.read_bytes() == b'old'
    assert list(tmp_path.iterdir()) == [path]


def test_telling_cases():
    dice = {'a': 0.4, 'b': 0.9, 'c': 0.7, 'd': None, 'e': 0.6}
    cases = {case: {'spleen': {'dice': value, 'asd_mm': value}, 'body': {'dice': 1.0}} for case, value in dice.items()}
    assert figures.telling_cases(cases, 'dice') == {'best': 'b', 'median': 'c', 'worst': 'a'}
    assert figures.telling_cases(cases, 'asd_mm') == {'best': 'a', 'median': 'e', 'worst': 'b'}
    assert figures.telling_cases({case: cases[case] for case in 'abc'})['median'] == 'c'
    assert figures.telling_cases({'a': cases['a'], 'b': cases['b']}) == {'best': 'b', 'worst': 'a'}
    assert figures.telling_cases({'a': cases['a'], 'd': cases['d']}) == {'best': 'a'}
    assert figures.telling_cases({}) == {}


def test_boxplots_of_systems(tmp_path, drawn):
    long = 'a system with a name that is far too long for a single line of a label'
    values = {'ours': [0.5, 0.6, 0.7, 0.8, None], long: [0.1, float('nan')], 'never $\\frac{$': []}
    marks = {'spleen': {long: '**'}}
    comparison_plots.boxplots(
        tmp_path / 'boxes.png',
        {'spleen': values, 'liver': values},
        measure='Dice',
        marks=marks,
        references=['ours'],
        limits=(0, 1),
    )
    spleen, liver = drawn[0].axes
    assert spleen.get_title(loc='left') == 'spleen' and spleen.get_xlim() == (0, 1)
    assert [label.get_text().replace('\n', ' ') for label in spleen.get_yticklabels()] == list(values)
    margin = [[text.get_text() for text in axes.texts] for axes in (spleen, liver)]
    assert margin == [['n 4', 'n 1', '**', 'no values'], ['n 4', 'n 1', 'no values']]
    box = spleen.patches[0]
    assert (box.get_x(), box.get_x() + box.get_width()) == pytest.approx((0.575, 0.725))  # the quartiles
    assert box.get_facecolor() != spleen.patches[1].get_facecolor()
    with pytest.raises(ValueError, match='different systems'):
        comparison_plots.boxplots(tmp_path / 'b.png', {'x': values, 'y': {}}, measure='Dice')


def test_labels_of_seven_systems_do_not_overlap(tmp_path, drawn):
    names = [f'system {i} with quite a long name for the label of a box' for i in range(7)]
    comparison_plots.boxplots(tmp_path / 'boxes.png', {'spleen': {name: [0.5] for name in names}}, measure='Dice')
    drawn[0].draw_without_rendering()
    extents = [label.get_window_extent() for label in drawn[0].axes[0].get_yticklabels()]
    assert all(above.y0 > below.y1 for above, below in zip(extents, extents[1:], strict=False))


def test_roc_curves(tmp_path, drawn):
    fpr = np.linspace(0, 1, 9001)
    one_class = np.array([0.0, 1.0]), np.array([np.nan, np.nan])
    comparison_plots.roc_curves(tmp_path / 'roc.png', {'chance': (fpr.tolist(), fpr), 'empty': one_class}, points=50)
    labels = [text.get_text() for text in drawn[0].legends[0].get_texts()]
    assert labels == ['chance: AUC 0.500', 'empty: AUC -']
    shown = drawn[0].axes[0].lines[1].get_xdata()
    assert shown.size <= 50 and (shown[0], shown[-1]) == (0, 1)


def test_against_a_count(tmp_path, drawn):
    few = {0: [0.5, 0.7], 2: [0.8], 1: [None]}
    comparison_plots.against(tmp_path / 'std.png', {'ours': few}, count='context', measure='Dice')
    (axes,) = drawn[0].axes
    assert axes.lines[0].get_xydata().tolist() == [[0, pytest.approx(0.6)], [2, 0.8]]
    band = axes.collections[0].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == pytest.approx((0.6 - 0.02**0.5, 0.8))
    assert axes.get_xticks().tolist() == [0, 1, 2] and not drawn[0].legends
    intervals = {'ours': {0: (0.1, 0.9)}, 'theirs': {}}
    comparison_plots.against(
        tmp_path / 'ci.png', {'ours': few, 'theirs': {}}, count='context', measure='Dice', intervals=intervals
    )
    assert drawn[1].axes[0].collections[0].get_paths()[0].vertices[:, 1].max() == 0.9
    assert [text.get_text() for text in drawn[1].legends[0].get_texts()] == ['ours', 'theirs']
